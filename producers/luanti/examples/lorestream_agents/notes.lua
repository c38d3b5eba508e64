-- What a character noticed in the last seconds, kept by himself. It bridges the moment until a memory can be searched,
-- and it is all that a character without memories has. Pure: no engine, no service.
--
-- A note, and a memory: {text, metadata, timestamp (on the character's clock, in seconds), pos or nil, player or nil}.

local Notes = {}
Notes.__index = Notes

-- How long he keeps a note in mind, in seconds.
Notes.SPAN_S = 15

function Notes.new()
	return setmetatable({list = {}}, Notes)
end

-- metadata: its pos and player become those of the note, as lorestream.put does it.
function Notes:add(text, metadata, now_s)
	local note = {text = text, metadata = {}, timestamp = now_s}
	for key, value in pairs(metadata) do
		if key == "pos" or key == "player" then
			note[key] = value
		else
			note.metadata[key] = value
		end
	end
	table.insert(self.list, 1, note)
	return note
end

local function fits(value, wanted)
	if type(wanted) ~= "table" then
		return value == wanted
	end
	for _, choice in ipairs(wanted["in"]) do
		if value == choice then
			return true
		end
	end
	return false
end

local function is_near(pos, near)
	local sum = 0
	for _, axis in ipairs({"x", "y", "z"}) do
		if near[axis] then
			if not pos then
				return false
			end
			sum = sum + (pos[axis] - near[axis]) ^ 2
		end
	end
	return sum <= near.radius ^ 2
end

-- The notes that answer a question, the newest first. Understood are filters by equality and {["in"] = list}, and near;
-- the words of a question are not.
function Notes:answer(question, now_s)
	while #self.list > 0 and now_s - self.list[#self.list].timestamp > Notes.SPAN_S do
		table.remove(self.list)
	end
	local found = {}
	for _, note in ipairs(self.list) do
		local good = not question.near or is_near(note.pos, question.near)
		for field, wanted in pairs(question.filters or {}) do
			local value = note.metadata[field]
			if field == "player" then
				value = note.player
			end
			good = good and fits(value, wanted)
		end
		if good then
			found[#found + 1] = note
		end
	end
	return found
end

-- What a note and the memory of it have in common. JSON and the service may change the last digits of a number.
local function key(note)
	local pos = note.pos or {}
	return ("%s|%.1f|%.1f|%.1f"):format(note.text, note.timestamp, pos.x or 0, pos.z or 0)
end

-- Notes and memories together, without doubles, the newest first.
function Notes.join(notes, memories)
	local all, seen = {}, {}
	for _, list in ipairs({notes, memories}) do
		for _, note in ipairs(list) do
			if not seen[key(note)] then
				seen[key(note)] = true
				all[#all + 1] = note
			end
		end
	end
	table.sort(all, function(a, b)
		return a.timestamp > b.timestamp
	end)
	return all
end

return Notes
