-- Checks the lines of earlier runs before they are sent: one broken line would make the request of a hundred others
-- invalid.

-- Follows the line in the list that is parsed: only where the line is exactly one value, this is the second one.
local SENTINEL = 7

-- parse: core.parse_json. agent_fault(agent_id): encode.agent_fault. Returns check(line, erase), which returns whether
-- the line is one JSON object with what the gateway needs of an event, or of an erasure.
return function(parse, agent_fault)
	local function is_text(value)
		return type(value) == "string" and value ~= ""
	end

	return function(line, erase)
		-- parse_json ignores what follows the first value, and raises an error where the nesting is too deep.
		local ok, list = pcall(parse, "[" .. line .. "," .. SENTINEL .. "]", nil, true)
		if not ok or type(list) ~= "table" or #list ~= 2 or list[2] ~= SENTINEL or type(list[1]) ~= "table" then
			return false
		end
		local event = list[1]
		if erase then
			return is_text(event.agent_id) or is_text(event.player)
		end
		return not agent_fault(event.agent_id) and (is_text(event.text) or is_text(event.type))
	end
end
