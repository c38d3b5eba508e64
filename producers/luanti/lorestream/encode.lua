-- Events as JSON lines. Events are encoded when they are captured, so that sending only joins strings.

local encode = {}

-- The gateway's limit for an event, in bytes of JSON as UTF-8.
encode.MAX_BYTES = 16 * 1024
local MAX_DEPTH = 8
local MAX_AGENT_ID = 256
local MAX_PLAYER = 256
local MAX_TYPE = 64
local RESERVED_PREFIX = "lorestream."
-- Strings up to this length are not cut.
local MIN_CUT = 64
-- Bytes that are cut off beyond what is needed, for the mark in the metadata.
local MARGIN = 32

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
		elseif type(key) == "string" then
			key = encode.clean(core, key)
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
	-- First of all, because for the engine's functions a text ends at a NUL.
	text = text:gsub("%z", "")
	if core.get_translated_string then
		text = core.get_translated_string("en", text)
	end
	text = core.strip_colors(text)
	return (text:gsub("[\r\n\t]+", " "):gsub("%c", ""))
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

-- Whether this is a list of one to `most` strings, none of them empty.
function encode.is_list_of_strings(list, most)
	if type(list) ~= "table" or #list == 0 or #list > most then
		return false
	end
	local count = 0
	for _, one in pairs(list) do
		count = count + 1
		if type(one) ~= "string" or one == "" then
			return false
		end
	end
	return count == #list
end

-- Length in characters: UTF-8 continuation bytes are not counted.
local function characters(text, most)
	return #text <= most and #text or select(2, text:gsub("[^\128-\191]", ""))
end

-- Why this cannot be the id of an agent, or nil.
function encode.agent_fault(agent_id)
	if type(agent_id) ~= "string" or agent_id == "" or characters(agent_id, MAX_AGENT_ID) > MAX_AGENT_ID then
		return "agent_id must be a string of 1 to " .. MAX_AGENT_ID .. " characters"
	end
	local nameless = agent_id:find("player:%s*$")
	if nameless == 1 or nameless and agent_id:sub(nameless - 1, nameless - 1) == ":" then
		return "agent_id must not be player: without a name"
	elseif agent_id:find("%c") then
		-- They are removed from the agent_id of a search, which would then ask for another agent.
		return "agent_id must not have control characters"
	end
end

local function fault_of(event)
	local kind, player = event.type, event.player
	local why = encode.agent_fault(event.agent_id)
	if why then
		return why
	elseif kind ~= nil and (type(kind) ~= "string" or kind == "" or #kind > MAX_TYPE or kind:find("%c")
		or kind:sub(1, #RESERVED_PREFIX) == RESERVED_PREFIX) then
		return "type must be a string of 1 to " .. MAX_TYPE .. " bytes, without control characters, that does not start" ..
			" with " .. RESERVED_PREFIX
	elseif player ~= nil and (type(player) ~= "string" or characters(player, MAX_PLAYER) > MAX_PLAYER
		or player:find("%c")) then
		return "player must be a string of at most " .. MAX_PLAYER .. " characters, without control characters"
	elseif (event.text == nil or event.text == "") and kind == nil then
		return "an event needs a text or a type"
	end
end

local function utf8(code)
	if code < 0x80 then
		return string.char(code)
	elseif code < 0x800 then
		return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
	elseif code < 0x10000 then
		return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
	end
	return string.char(0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
		0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

-- What follows a backslash in JSON, and stands for a character beyond ASCII, as UTF-8; false for all else.
local CHARACTERS = setmetatable({}, {__index = function(known, escape)
	local code = escape:find("^u%x%x%x%x$") and tonumber(escape:sub(2), 16) or 0
	local is_character = code >= 0x80 and (code < 0xD800 or code > 0xDFFF)
	known[escape] = is_character and utf8(code)
	return known[escape]
end})

local function pair(high, low)
	return utf8(0x10000 + (tonumber(high, 16) - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00)
end

-- Replaces the escapes \uXXXX of characters beyond ASCII by their UTF-8: releases before 5.16 write each such character
-- as 6 or 12 bytes. The last pattern takes an escaped backslash as a whole, so that what follows it is no escape.
local function unescaped(json)
	if not json:find("\\u", 1, true) then
		return json
	end
	-- The engine writes small letters. Looking for plain text is much faster than for a pattern.
	if json:find("\\ud", 1, true) then
		json = json:gsub("\\u(d[89ab]%x%x)\\u(d[c-f]%x%x)", pair)
	end
	return (json:gsub("\\([\\u]%x?%x?%x?%x?)", CHARACTERS))
end

local function json_of(core, value)
	local json, why = core.write_json(value)
	if not json then
		return nil, why or "no JSON form"
	end
	return unescaped((json:gsub("\n$", "")))
end

-- The place of the longest string in a table and the tables in it: its table, key and length.
local function longest(holder, found)
	for key, value in pairs(holder) do
		if type(value) == "table" then
			found = longest(value, found)
		elseif type(value) == "string" and #value > found.length then
			found = {holder = holder, key = key, length = #value}
		end
	end
	return found
end

-- The first bytes of a text, at most `most`, without a part of a character at the end.
local function beginning(text, most)
	for stop = most, math.max(most - 3, 1), -1 do
		local following = text:byte(stop + 1)
		if not following or following < 0x80 or following >= 0xC0 then
			return text:sub(1, stop)
		end
	end
	return text:sub(1, most)
end

-- Cuts the longest strings of an event until its JSON has at most `most` bytes. Returns the JSON, or nil and why not.
local function cut(core, event, json, most)
	local size = #json
	event.metadata = event.metadata or {}
	event.metadata.truncated = true
	while #json > most do
		local parts = {data = event.data, metadata = event.metadata, texts = {event.text}}
		local found = longest(parts, {length = MIN_CUT})
		if not found.holder then
			return nil, ("%d bytes, more than %d, and no long text in it that could be cut"):format(size, most)
		end
		-- A byte may be several in the JSON: assume the same number for each.
		local bytes = #json_of(core, found.holder[found.key])
		local share = math.max(0, bytes - (#json - most) - MARGIN) / bytes
		local shorter = beginning(found.holder[found.key], math.max(MIN_CUT, math.floor(found.length * share)))
		if found.holder == parts.texts then
			event.text = shorter
		else
			found.holder[found.key] = shorter
		end
		json = json_of(core, event)
	end
	return json
end

-- One event as JSON without a line end, its id first, or nil and the reason why it cannot be sent. An event that is too
-- long is cut, and gets truncated = true in its metadata.
function encode.event(core, event)
	local why = fault_of(event)
	if why then
		return nil, why
	end
	local id = event.id
	event.id = nil
	local json
	json, why = json_of(core, event)
	local most = encode.MAX_BYTES - #id - #'"id":"",'
	if json and #json > most then
		json, why = cut(core, event, json, most)
	end
	event.id = id
	return json and '{"id":"' .. id .. '",' .. json:sub(2), why
end

-- Percent-encoding of everything except unreserved characters (RFC 3986).
function encode.percent(text)
	return (text:gsub("[^%w%-%._~]", function(char)
		return ("%%%02X"):format(char:byte())
	end))
end

return encode
