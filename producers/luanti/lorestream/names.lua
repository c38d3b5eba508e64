-- Replaces player names in texts that players write.
--
-- A name is replaced where it is a whole word: no letter of the Latin script, digit or combining mark touches it.
-- Player names consist of ASCII letters, digits, "_" and "-", so letters of other scripts end a word as well.

local Names = {}
Names.__index = Names

local REPLACEMENT = "a player"
-- Names shorter than this are replaced only in their exact case, because "i" is also a word.
local SHORT = 3

-- Frequent words of chat. A player with such a name, or with the name of an item, is replaced only where the name
-- stands as a speaker or as the one spoken to.
local FREQUENT = [[a about after all also am an and any are as at back be because been but by bye can come could day did
do does done dont for from get give go good got had has have he hello help her here hey hi him his home how i if im in
into is it its just know like lol look make me mine more my need new nice no not now of off oh ok okay on one only or
other our out over player please say see she so some sorry stop take tell than thank thanks that the their them then
there these they thing think this time to too two up us use very wait want was way we well were what when where which
who why will with work would yes you your]]

function Names.new()
	local self = setmetatable({known = {}, words = {}, longest = 0}, Names)
	self:add_words(FREQUENT)
	return self
end

local function folded(name)
	return #name < SHORT and name or name:lower()
end

function Names:add(name)
	self.known[folded(name)] = true
	self.longest = math.max(self.longest, #name)
end

-- Adds all players who have an account, or, where the handler of accounts cannot list them, all who were met before.
function Names:read(accounts, storage)
	if type(accounts.iterate) == "function" then
		for name in accounts.iterate() do
			self:add(name)
		end
		return
	end
	self.storage = storage
	for key in pairs(storage:to_table().fields) do
		local name = key:match("^known:(.+)$")
		if name then
			self:add(name)
		end
	end
end

-- Adds a player who joins.
function Names:meet(name)
	self:add(name)
	if self.storage then
		self.storage:set_string("known:" .. name, "1")
	end
end

-- Adds words that are also names of things: "default:iron_lump" adds "iron" and "lump".
function Names:add_words(text)
	for word in text:gsub("^[^:]*:", ""):gmatch("%w+") do
		self.words[word:lower()] = true
	end
end

local function is_word_byte(byte)
	return byte and (byte >= 48 and byte <= 57 or byte >= 65 and byte <= 90 or byte >= 97 and byte <= 122)
end

-- Whether the code point belongs to a word in Latin letters: letters with marks, and combining marks.
local function is_latin(code)
	return code >= 0xC0 and code <= 0x2AF and code ~= 0xD7 and code ~= 0xF7
		or code >= 0x300 and code <= 0x36F or code >= 0x1E00 and code <= 0x1EFF
		or code >= 0x2C60 and code <= 0x2C7F or code >= 0xA720 and code <= 0xA7FF
		or code == 0xAA or code == 0xB5 or code == 0xBA
end

-- The code point of the UTF-8 sequence (2 or 3 bytes) that starts at this place; 0 for anything else.
local function code_at(text, place)
	local first, second, third = text:byte(place, place + 2)
	if first and first >= 0xC2 and first <= 0xDF and second then
		return (first - 0xC0) * 64 + second % 64
	elseif first and first >= 0xE0 and first <= 0xEF and third then
		return (first - 0xE0) * 4096 + second % 64 * 64 + third % 64
	end
	return 0
end

local function is_joined_before(text, start)
	local place = start - 1
	while place > 1 and place > start - 3 and text:byte(place) >= 0x80 and text:byte(place) < 0xC0 do
		place = place - 1
	end
	return place >= 1 and is_latin(code_at(text, place))
end

-- Whether the name in text[first..last] stands as a speaker or as the one spoken to: "<iron>", "@iron", "iron: …",
-- "iron, …".
local function is_address(text, first, last)
	local before, after = text:sub(first - 1, first - 1), text:sub(last + 1, last + 1)
	return before == "@" or before == "<" and after == ">"
		or (after == ":" or after == ",") and not text:sub(1, first - 1):find("%S")
end

-- Whether text[first..last] is a name that is replaced there.
function Names:is_name(text, first, last)
	local name = text:sub(first, last)
	return self.known[folded(name)] and (not self.words[name:lower()] or is_address(text, first, last))
end

-- The end of the longest name that starts at first, within a run of name characters that ends at stop; nil if there is
-- none. With a genitive's "s" the second result is the ending of the replacement.
function Names:match(text, first, stop)
	for last = math.min(stop, first + self.longest), first, -1 do
		local byte = text:byte(last)
		if not (is_word_byte(byte) and is_word_byte(text:byte(last + 1)))
			and not (last == stop and is_latin(code_at(text, last + 1))) then
			if self:is_name(text, first, last) then
				return last
			elseif (byte == 115 or byte == 83) and last - first >= SHORT and self:is_name(text, first, last - 1) then
				return last, "'s"
			end
		end
	end
end

-- The text with "a player" for each known name.
function Names:hide(text)
	local parts, copied, from = {}, 1, 1
	while true do
		local start, stop = text:find("[%w_%-]+", from)
		if not start then
			break
		end
		local first = start
		while first <= stop do
			local joined = first == start and is_joined_before(text, first)
				or first > start and is_word_byte(text:byte(first)) and is_word_byte(text:byte(first - 1))
			local last, suffix
			if not joined then
				last, suffix = self:match(text, first, stop)
			end
			if last then
				parts[#parts + 1] = text:sub(copied, first - 1) .. REPLACEMENT .. (suffix or "")
				copied = last + 1
			end
			first = (last or first) + 1
		end
		from = stop + 1
	end
	return table.concat(parts) .. text:sub(copied)
end

return Names
