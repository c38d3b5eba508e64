-- Events as JSON lines. Events are encoded when they are captured, so that sending only joins strings.

local encode = {}

encode.MAX_BYTES = 16 * 1024
local MAX_DEPTH = 8
local MAX_AGENT_ID = 256
local MAX_TYPE = 64
local RESERVED_PREFIX = "lorestream."

-- A copy of a value that can be written as JSON, or nil and the reason. NaN, infinity, functions and userdata are left
-- out; colour codes and control characters are removed from strings.
local function plain(core, value, depth)
	local kind = type(value)
	if kind == "string" then
		return encode.clean(core, value)
	elseif kind == "number" then
		-- NaN is not equal to itself. Infinity would be written as 1e+9999, which makes the whole batch invalid.
		if value ~= value or value == math.huge or value == -math.huge then
			return nil
		end
		return value
	elseif kind == "boolean" then
		return value
	elseif kind ~= "table" then
		return nil
	elseif depth > MAX_DEPTH then
		return nil, "nested deeper than " .. MAX_DEPTH
	end
	local copy, length = {}, #value
	for key, item in pairs(value) do
		local kept, why = plain(core, item, depth + 1)
		if why then
			return nil, why
		end
		-- A table with both list items and string keys becomes an object.
		if length == 0 and type(key) ~= "string" then
			key = tostring(key)
		end
		copy[key] = kept
	end
	if length == 0 then
		return copy
	end
	local list = {}
	for key, item in pairs(copy) do
		if type(key) ~= "number" or key < 1 or key > length or key % 1 ~= 0 then
			local object = {}
			for name, part in pairs(copy) do
				object[tostring(name)] = part
			end
			return object
		end
		list[key] = item
	end
	-- Close the gaps of items that were left out; they would be written as null.
	local dense = {}
	for i = 1, length do
		if list[i] ~= nil then
			dense[#dense + 1] = list[i]
		end
	end
	return dense
end

-- Plain text: translated to English, without colours and control characters. write_json replaces invalid UTF-8.
function encode.clean(core, text)
	if not text:find("%c") then
		return text
	end
	if core.get_translated_string then
		text = core.get_translated_string("en", text)
	end
	text = core.strip_colors(text)
	return (text:gsub("[\r\n\t]+", " "):gsub("%z", ""):gsub("%c", ""))
end

-- A copy of a table that can be written as JSON; see plain().
function encode.data(core, data)
	return plain(core, data, 1)
end

-- {x, y, z} of numbers, or nil.
function encode.position(pos)
	if type(pos) ~= "table" then
		return nil
	end
	local x, y, z = pos.x, pos.y, pos.z
	if type(x) ~= "number" or type(y) ~= "number" or type(z) ~= "number" then
		return nil
	end
	if x ~= x or y ~= y or z ~= z or math.abs(x) + math.abs(y) + math.abs(z) >= 1e6 then
		return nil
	end
	return {x = x, y = y, z = z}
end

-- Length in characters: UTF-8 continuation bytes are not counted.
local function characters(text)
	return #text <= MAX_AGENT_ID and #text or select(2, text:gsub("[^\128-\191]", ""))
end

-- One event as JSON without a line end, or nil and the reason why it cannot be sent.
function encode.event(core, event)
	local agent_id = event.agent_id
	if type(agent_id) ~= "string" or agent_id == "" or characters(agent_id) > MAX_AGENT_ID then
		return nil, "agent_id must be a string of 1 to " .. MAX_AGENT_ID .. " characters"
	end
	local kind = event.type
	if kind ~= nil and (type(kind) ~= "string" or kind == "" or #kind > MAX_TYPE
		or kind:sub(1, #RESERVED_PREFIX) == RESERVED_PREFIX) then
		return nil, "type must be a string of 1 to " .. MAX_TYPE .. " bytes that does not start with " .. RESERVED_PREFIX
	end
	if (event.text == nil or event.text == "") and kind == nil then
		return nil, "an event needs a text or a type"
	end
	local line, why = core.write_json(event)
	if not line then
		return nil, why or "no JSON form"
	end
	line = line:gsub("\n$", "")
	if #line > encode.MAX_BYTES then
		return nil, ("%d bytes, more than %d"):format(#line, encode.MAX_BYTES)
	end
	return line
end

-- Percent-encoding of everything except unreserved characters (RFC 3986).
function encode.percent(text)
	return (text:gsub("[^%w%-%._~]", function(char)
		return ("%%%02X"):format(char:byte())
	end))
end

return encode
