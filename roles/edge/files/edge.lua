-- Copyright (c) 2026, mai.fleet contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- HAProxy's root is /run/mai-edge. What lies there is on no disk, so reading it does not block.

-- A gate is a file with the time at which it opens by itself.
local function closed(client)
    local file = io.open("/hold/" .. client)
    if file == nil then
        return false
    end
    local deadline = tonumber(file:read("l"))
    file:close()
    return deadline ~= nil and deadline > os.time()
end

-- After that many seconds, a request that waits at a closed gate is refused.
core.register_action("hold", { "http-req" }, function(txn, client, limit)
    local give_up = os.time() + tonumber(limit)
    while closed(client) do
        if os.time() >= give_up then
            txn:set_var("txn.held_too_long", 1)
            return
        end
        core.msleep(50)
    end
end, 2)

-- Answers of the ACME client to the certificate authority.
core.register_service("acme", "http", function(applet)
    local token = applet.path:match("^/%.well%-known/acme%-challenge/([%w_%-]+)$")
    local file = token and io.open("/acme/" .. token)
    local body = "there is no such challenge\n"
    local status = 404
    if file then
        body = file:read("a")
        file:close()
        status = 200
    end
    applet:set_status(status)
    applet:add_header("content-type", "text/plain")
    applet:add_header("content-length", tostring(#body))
    applet:start_response()
    applet:send(body)
end)

-- A request in chunks may be as long as it likes, until it is too long.
local Limit = { id = "upload limit", flags = filter.FLT_CFG_FL_HTX }
Limit.__index = Limit

function Limit:new()
    return setmetatable({ limit = self.limit, seen = 0 }, Limit)
end

-- A websocket is no upload; any other request may ask for an upgrade that nobody grants.
local function is_websocket(message, headers)
    local upgrade = headers["upgrade"]
    return message:get_stline()["method"] == "GET" and upgrade ~= nil and upgrade[0]:lower() == "websocket"
end

function Limit:http_headers(txn, message)
    if message.channel:is_resp() then
        return
    end
    local headers = message:get_headers()
    if not headers["content-length"] and not is_websocket(message, headers) then
        filter.register_data_filter(self, message.channel)
    end
end

function Limit:http_payload(txn, message)
    self.seen = self.seen + message:input()
    if self.seen > self.limit then
        -- Nothing else makes HAProxy give the request up, neither txn:done() nor filter.ERROR. It
        -- answers with a 400, of which its configuration makes a 413.
        txn:set_var("txn.too_long", 1)
        error("a request without a length has more than " .. self.limit .. " bytes", 0)
    end
end

core.register_filter("limit", Limit, function(limit, arguments)
    limit.limit = tonumber(arguments[1])
    return limit
end)
