-- Adds `state` to the global table `lorestream`: the documents of agents. Documented in api.md.

-- What write_json would turn into null, or what no Lua table can hold, is written as one of these first.
local NULL, EMPTY = "lorestream.null", "lorestream.empty"
local MAX_BYTES = 256 * 1024
-- A document counts as this many memories among those that one answer may have. Larger ones are asked for again alone.
local SIZE = 16

return function(parts, lorestream, ask)
	local core, encode, documents = parts.core, parts.encode, parts.documents

	-- Stands for null: in a patch, it removes a field.
	lorestream.null = {[NULL] = true}

	local function mark_empty(value)
		for key, item in pairs(value) do
			if type(item) == "table" then
				value[key] = next(item) == nil and {[EMPTY] = true} or mark_empty(item)
			end
		end
		return value
	end

	-- A table as a JSON object, with {} for an empty one; or nil and the reason.
	local function object(data)
		if type(data) ~= "table" then
			return nil, "data must be a table"
		end
		local copy, why = encode.data(core, data)
		if not copy or next(copy) == nil then
			return copy and "{}", why
		elseif #copy > 0 then
			return nil, "data must have names as its keys"
		end
		local json
		json, why = core.write_json(mark_empty(copy))
		if not json then
			return nil, why
		end
		json = json:gsub("\n$", ""):gsub('{"lorestream%.null" ?: ?true}', "null"):gsub('{"lorestream%.empty" ?: ?true}', "{}")
		if #json > MAX_BYTES then
			return nil, ("data has %d bytes of JSON, more than %d"):format(#json, MAX_BYTES)
		end
		return json
	end

	local Document = {}
	Document.__index = Document

	-- The fault of the ids or of the options, or nil.
	local function fault_of(document, opts)
		local name, why = document.name, encode.agent_fault(document.agent_id)
		if why then
			return why
		elseif type(name) ~= "string" or #name > 64 or not name:find("^[a-z0-9_.%-]+$") then
			return "the name must be 1 to 64 of the characters a-z, 0-9, _, . and -"
		elseif opts ~= nil and type(opts) ~= "table" then
			return "the options must be a table"
		end
	end

	local function write(document, verb, data, opts, callback)
		if type(opts) == "function" then
			opts, callback = nil, opts
		end
		local why, json = fault_of(document, opts), nil
		local forbidden = not why and verb ~= "/delete" and parts.privacy:forbids({agent_id = document.agent_id})
		opts = not why and opts or {}
		local event_id = type(opts.event_id) == "string" and opts.event_id or documents:new_id()
		if not why and verb ~= "/delete" then
			json, why = object(data)
		end
		local fields, body = {event_id = event_id, if_version = opts.if_version, tick = opts.tick}, nil
		if not why then
			body, why = core.write_json(fields)
			body = body and body:gsub("\n$", "")
		end
		if body and json then
			body = '{"data":' .. json .. "," .. body:sub(2)
		end
		documents:write({
			agent_id = document.agent_id,
			path = "/v1/entities/" .. encode.percent(tostring(document.name)) .. "/"
				.. encode.percent(tostring(document.agent_id)),
			verb = verb,
			event_id = event_id,
			body = body or nil,
			why = why,
			over = forbidden and "opted_out" or nil,
			callback = type(callback) == "function" and callback or nil,
		})
		return event_id
	end

	function Document:put(data, opts, callback)
		return write(self, "", data, opts, callback)
	end

	function Document:patch(data, opts, callback)
		return write(self, "/patch", data, opts, callback)
	end

	function Document:delete(opts, callback)
		return write(self, "/delete", nil, opts, callback)
	end

	function Document:get(opts, callback)
		if type(opts) == "function" then
			opts, callback = nil, opts
		end
		local why = fault_of(self, opts)
		local body = {}
		for name, value in pairs(not why and opts or {}) do
			body[name] = value
		end
		body.type, body.id = self.name, self.agent_id
		return ask({kind = "document", agents = {self.agent_id}, size = SIZE}, body, why, callback)
	end

	function lorestream.state(agent_id, name)
		return setmetatable({agent_id = agent_id, name = name}, Document)
	end
end
