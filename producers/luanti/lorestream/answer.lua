-- Reads the answers of the services. A proxy, another service or a faulty one may answer anything, so each field is
-- checked before it is used.

local Answer = {}

-- A longer answer is not parsed: that would take longer than a server step.
Answer.MAX_BYTES = 256 * 1024
-- The same for an answer that is one document: so large a document can be written, and the answer says more than that.
Answer.MAX_DOCUMENT_BYTES = Answer.MAX_BYTES + 8 * 1024
-- Length to which a text of an answer is cut for the log and for the admins.
local MAX_SHOWN = 300

-- The number if it is finite and at least 0, else nil.
local function count_of(value)
	return type(value) == "number" and value >= 0 and value < math.huge and value or nil
end

-- A text of an answer as one short line, or nil if it is no text.
local function line_of(value)
	return type(value) == "string" and (value:sub(1, MAX_SHOWN):gsub("%c+", " ")) or nil
end

-- Reads a completed request. result: from fetch_async_get. parse: core.parse_json. prepare(body) changes the body
-- before it is parsed (optional). most: the length up to which it is parsed (MAX_BYTES). Returns the status code (0 =
-- no answer), and the answer as a table; {} and the reason if it cannot be understood.
function Answer.read(parse, result, prepare, most)
	most = most or Answer.MAX_BYTES
	local code, body = count_of(result.code) or 0, result.data
	if type(body) ~= "string" or not body:find("^%s*{") then
		-- parse_json logs an error for invalid JSON: check the beginning first.
		return code, {}, "not a JSON object"
	elseif #body > most then
		return code, {}, ("%d bytes, more than %d"):format(#body, most)
	end
	-- parse_json raises an error when the nesting is too deep. The third argument makes newer releases return errors
	-- instead of logging them.
	local ok, answer = pcall(parse, prepare and prepare(body) or body, nil, true)
	if not ok or type(answer) ~= "table" then
		return code, {}, "not valid JSON"
	end
	return code, answer
end

-- The code and the message of a refusal, each nil if it is missing or of another type.
function Answer.error_of(answer)
	local fault = type(answer.error) == "table" and answer.error or {}
	return line_of(fault.code), line_of(fault.message)
end

-- The pause that an answer asks for, in seconds, at most `most`; 0 if it asks for none.
function Answer.pause_of(answer, most)
	return math.min((count_of(answer.retry_after_ms) or 0) / 1000, most)
end

-- What became of a batch of `count` events. Returns a list of {index (from 1), code, message} of the rejected events,
-- or nil and the reason if the answer does not account for each event of the batch.
function Answer.rejects_of(answer, count)
	local accepted, rejected = count_of(answer.accepted), answer.rejected
	if not accepted or rejected ~= nil and type(rejected) ~= "table" then
		return nil, "it does not say what was accepted"
	end
	local rejects, seen = {}, {}
	for _, reject in pairs(rejected or {}) do
		local index = type(reject) == "table" and count_of(reject.index)
		local code = index and line_of(reject.code)
		if not code or index % 1 ~= 0 or index >= count or seen[index] then
			return nil, "it has an entry in `rejected` that names no event of the batch"
		end
		seen[index] = true
		local message = line_of(reject.message) or "no reason given"
		rejects[#rejects + 1] = {index = index + 1, code = code, message = message}
	end
	table.sort(rejects, function(a, b)
		return a.index < b.index
	end)
	if accepted + #rejects ~= count then
		return nil, ("it accounts for %s of %d events"):format(accepted + #rejects, count)
	end
	return rejects
end

-- The type of each field of a memory. A field of another type is left out.
local MEMORY = {
	id = "string", text = "string", type = "string", agent_id = "string", server = "string", player = "string",
	data = "table", metadata = "table", pos = "table", score_details = "table",
	about = "table", sources = "table", supersedes = "string", superseded_by = "string",
	timestamp = "number", accepted_at = "number", expires_at = "number", tick = "number", importance = "number",
	score = "number", truncated = "boolean",
}

-- A list of memories without what is none: entries that are not tables or have no text. nil if it is not a list.
function Answer.memories(list)
	if type(list) ~= "table" then
		return nil
	end
	local memories = {}
	for _, memory in ipairs(list) do
		if type(memory) == "table" and type(memory.text) == "string" then
			for field, kind in pairs(MEMORY) do
				if memory[field] ~= nil and type(memory[field]) ~= kind then
					memory[field] = nil
				end
			end
			local pos = memory.pos
			if pos and not (type(pos.x) == "number" and type(pos.y) == "number" and type(pos.z) == "number") then
				memory.pos = nil
			end
			memories[#memories + 1] = memory
		end
	end
	return memories
end

return Answer
