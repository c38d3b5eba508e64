-- One decision of a character who gathers something: takes what he sees, goes to a remembered place, or looks around.
--
-- job: {
--   kind = "trees"            the memories' metadata.kind
--   nodes = {"group:tree"}    what he looks for
--   one, many = "a tree", "trees"
--   reach                     nodes
--   work(agent, pos)          takes it; returns how much he got
--   work_s                    about how long that takes for one unit, in seconds
--   patch                     nodes: what is closer together is one place
--   regrow_s                  see places.expected
--   least_rate                units per second that a remembered place must promise; below it he looks for new ones
--   room(agent)               how much he can still carry; nil: as much as he likes
-- }

return function(lib)
	local places, wander, caution = lib.places, lib.wander, lib.caution

	local FAR = 100 -- how far he walks to a remembered place
	local K = 64
	local LOOK_EVERY = 3 -- nodes between two looks around while he walks

	local function question(kind, pos, radius)
		return {filters = {kind = kind}, near = {x = pos.x, z = pos.z, radius = radius}, k = K}
	end

	-- Ends the visit to a place: remembers what he took and what he left.
	local function leave(agent, job, left)
		local visit = agent.visit
		agent.visit = nil
		if visit and visit.amount > 0 then
			agent:remember(("I found %s here and took %d, %d are left"):format(job.many, visit.amount, left),
				{kind = job.kind, outcome = "found", amount = visit.amount, left = left, pos = visit.pos})
		elseif visit and left == 0 then
			agent:remember(("I came for %s, but found nothing here"):format(job.many),
				{kind = job.kind, outcome = "nothing", pos = visit.pos})
		end
	end

	local function give_up(agent, job, pos)
		pos = vector.round(pos)
		table.insert(agent.unreachable, {pos = pos, timestamp = agent:now(), metadata = {outcome = "unreachable"}})
		agent:remember(("I could not get to %s here"):format(job.one),
			{kind = job.kind, outcome = "unreachable", pos = pos})
	end

	-- The nearest thing in sight that he has not failed to reach lately.
	local function in_sight(agent, job)
		local seen = agent:look(job.nodes)
		for _, pos in ipairs(seen) do
			if not places.is_unreachable(agent.unreachable, pos, agent:now()) then
				return pos, #seen
			end
		end
		return nil, #seen
	end

	local function take(agent, job, pos)
		local visit = agent.visit
		if not visit or places.distance(visit.pos, pos) > job.patch then
			leave(agent, job, 0)
			agent.visit = {pos = vector.round(pos), amount = 0}
		end
		local ok, why = agent:walk_to(pos, job.reach, agent.dangers)
		if ok then
			agent.visit.amount = agent.visit.amount + job.work(agent, pos)
		elseif why ~= "died" then
			give_up(agent, job, pos)
		end
	end

	-- For walk_to: stops him when there is something to take. Looks only every few nodes.
	local function noticer(agent, job)
		local steps = 0
		return function()
			steps = steps + 1
			return steps % LOOK_EVERY == 0 and in_sight(agent, job) ~= nil
		end
	end

	local function look_around(agent, job, looked)
		local from = agent:pos()
		local points = wander.sort(wander.points(from, agent.random), {
			from = from,
			heading = agent.heading,
			looked = looked,
			sight = agent.def.sight,
			now_s = agent:now(),
			half_life_s = job.regrow_s or 3600,
			random = agent.random,
		})
		for _, point in ipairs(points) do
			local target = agent.stand(point.x, from.y, point.z)
			local ok, why
			if target then
				ok, why = agent:walk_to(target, 1, agent.dangers, noticer(agent, job))
			end
			if ok or why == "noticed" or why == "died" then
				local pos = agent:pos()
				agent.heading = {x = pos.x - from.x, z = pos.z - from.z}
				if ok then
					agent:remember(("I looked around here and saw no %s"):format(job.many),
						{kind = job.kind .. "-look", outcome = "nothing", pos = pos})
				end
				return
			end
		end
	end

	return function(agent, job)
		agent.unreachable, agent.dangers = agent.unreachable or {}, agent.dangers or {}
		local room = job.room and job.room(agent) or math.huge
		local found, number = in_sight(agent, job)
		if room <= 0 then
			return leave(agent, job, number)
		elseif found then
			return take(agent, job, found)
		end
		leave(agent, job, 0)
		local pos = agent:pos()
		local known, looked, hurt = agent:ask(question(job.kind, pos, FAR),
			question(job.kind .. "-look", pos, 2 * agent.def.sight), caution.question(pos))
		agent.unreachable = known
		caution.learn(agent, hurt)
		local best, rate = places.best(places.group(known, job.patch), {
			from = pos,
			now_s = agent:now(),
			regrow_s = job.regrow_s,
			speed = agent.def.speed,
			work_s = job.work_s,
			room = room,
		})
		if not best or rate < job.least_rate then
			return look_around(agent, job, looked)
		end
		agent:say(("I remember %s at %s"):format(job.many, core.pos_to_string(best.pos)))
		local ok, why = agent:walk_to(best.pos, job.reach, agent.dangers, noticer(agent, job))
		if ok then
			-- If nothing is there, the next decision remembers it.
			agent.visit = {pos = best.pos, amount = 0}
		elseif why ~= "noticed" and why ~= "died" then
			give_up(agent, job, best.pos)
		end
	end
end
