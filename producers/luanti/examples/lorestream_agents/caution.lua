-- Remembers where a character was hurt, so that he walks around these places. Pure.

return function(places)
	local caution = {}

	-- After this time a danger counts half, in seconds.
	caution.HALF_LIFE_S = 4 * 3600
	local FAR = 60

	function caution.question(pos)
		return {filters = {kind = "danger"}, near = {x = pos.x, z = pos.z, radius = FAR}, k = 100}
	end

	-- Keeps the answer to that question for the ways that he walks next.
	function caution.learn(agent, notes)
		agent.dangers = places.dangers(notes, agent:now(), caution.HALF_LIFE_S)
	end

	-- He was hurt where he stands. A danger that he knows is not remembered again.
	function caution.hurt(agent, amount, source)
		agent.dangers = agent.dangers or {}
		local pos = agent:pos()
		for _, danger in ipairs(agent.dangers) do
			if places.distance(danger.pos, pos) < 1 then
				return
			end
		end
		table.insert(agent.dangers, {pos = pos, damage = amount})
		agent:remember(("I was hurt here by %s"):format(source:match(":(.*)$") or source),
			{kind = "danger", outcome = "hurt", amount = amount, source = source, pos = pos})
	end

	return caution
end
