-- What a guard asks his memory about a visitor, and what he makes of the answer. Pure: no engine, no service.
--
-- A memory: metadata {outcome = "attack"|"peace", damage}, and the visitor as player.

-- Argument: lorestream_agents.weight.
local weight = ...
local mind = {}

-- After this time what somebody did weighs half, in seconds.
mind.HALF_LIFE_S = 7 * 86400
-- A guard is on the alert from this threat on. A threat is measured in the damage that somebody did; each peaceful
-- visit takes something away from it. A blow by accident is no attack.
mind.ALERT = 2
mind.PEACE = 1

function mind.about_visitor(name)
	return {filters = {player = name, outcome = {["in"] = {"attack", "peace"}}}, k = 20}
end

-- How dangerous a visitor is, from the memories of him.
function mind.threat(memories, now_s)
	local threat = 0
	for _, memory in ipairs(memories) do
		local share = weight(memory, now_s, mind.HALF_LIFE_S)
		local deed = memory.metadata
		if deed.outcome == "attack" then
			threat = threat + share * (tonumber(deed.damage) or 0)
		elseif deed.outcome == "peace" then
			threat = threat - share * mind.PEACE
		end
	end
	return threat
end

function mind.is_dangerous(memories, now_s)
	return mind.threat(memories, now_s) >= mind.ALERT
end

-- The text and metadata of a memory of blows, or of a visit in peace (damage 0). The visitor's name is no part of the
-- text.
function mind.memory(name, damage)
	if damage > 0 then
		return ("A visitor attacked me: %d damage"):format(damage), {player = name, outcome = "attack", damage = damage}
	end
	return "A visitor came in peace", {player = name, outcome = "peace"}
end

return mind
