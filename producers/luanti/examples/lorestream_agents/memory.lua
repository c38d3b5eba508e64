-- The memory of one character: his notes of the last seconds and, unless memories are switched off, what lorestream
-- keeps. All calls of lorestream are in this file.

-- lorestream: the global table of that mod, or nil: then only the notes count.
return function(Notes, lorestream)
	local Memory = {}
	Memory.__index = Memory

	-- clock(): the character's time in seconds.
	function Memory.new(agent_id, clock)
		return setmetatable({agent_id = agent_id, clock = clock, notes = Notes.new()}, Memory)
	end

	-- Remembers something. metadata: a table; its pos and player are those of the memory. ttl: seconds, or nil.
	function Memory:remember(text, metadata, ttl)
		local now_s = math.floor(self.clock() * 10 + 0.5) / 10
		self.notes:add(text, metadata, now_s)
		if lorestream then
			local copy = {at = now_s}
			for key, value in pairs(metadata) do
				copy[key] = value
			end
			lorestream.put(self.agent_id, text, copy, ttl)
		end
	end

	-- Memories as notes. Their time is the character's own, which runs on only while the world does.
	local function as_notes(memories)
		local notes = {}
		for _, memory in ipairs(memories) do
			local metadata = type(memory.metadata) == "table" and memory.metadata or {}
			if type(metadata.at) == "number" then
				notes[#notes + 1] = {
					text = memory.text,
					metadata = metadata,
					timestamp = metadata.at,
					pos = type(memory.pos) == "table" and memory.pos.x and memory.pos.z and memory.pos or nil,
					player = memory.player,
				}
			end
		end
		return notes
	end

	-- Searches. question: as for lorestream.recall; without a query the newest come first. callback(notes, err) is
	-- called once, at once or in a later server step; err says why there are only these notes.
	function Memory:recall(question, callback)
		if not lorestream then
			return callback(self.notes:answer(question, self.clock()))
		end
		lorestream.recall(self.agent_id, question, function(memories, err)
			callback(Notes.join(self.notes:answer(question, self.clock()), as_notes(memories)), err)
		end)
	end

	return Memory
end
