-- One decision of a character who gathers something: takes what he sees, goes to a remembered place, or looks around.
-- Pure: what it needs of the engine, the agent has.
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
--   careful                   he asks where he was hurt, and walks around it
-- }

return function(lib)
	local places, wander, caution = lib.places, lib.wander, lib.caution

	local FAR = 100 -- how far he walks to a remembered place
	local K = 100
	local MAX_TRIES = 5 -- points that he tries to walk to in one decision; each costs the path finder time
	local STUCK_S = 3 -- he rests if none of them can be reached
	local LOOK_EVERY = 3 -- nodes between two looks around while he walks
	local LOOK_APART = 9 -- nodes between two looks that he remembers
	local LOOK_FAR = 60 -- how far away he knows where he has looked
	local LOOK_HALF_LIFE_S = 3600 -- after this time a look counts half

	local function question(kind, pos, radius)
		return {filters = {kind = kind}, near = {x = pos.x, z = pos.z, radius = radius}, k = K}
	end

	-- Remembers that he sees nothing here, unless he has just done so close by.
	local function nothing_here(agent, job)
		local pos = agent:pos()
		if not agent.looked_at or places.distance(agent.looked_at, pos) >= LOOK_APART then
			agent.looked_at = pos
			agent:remember(("I looked around here and saw no %s"):format(job.many),
				{kind = job.kind .. "-look", outcome = "nothing", pos = pos})
		end
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
		local ok, why = agent:walk_to(pos, job.reach, agent.dangers)
		if ok then
			local visit = agent.visit
			if not visit or places.distance(visit.pos, pos) > job.patch then
				leave(agent, job, 0)
				agent.visit = {pos = pos, amount = 0}
			end
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
			if steps % LOOK_EVERY ~= 0 then
				return false
			elseif in_sight(agent, job) then
				return true
			end
			nothing_here(agent, job)
			return false
		end
	end

	local function look_around(agent, job, looked)
		local from = agent:pos()
		local points = wander.sort(wander.points(from, agent.random), {
			from = from,
			heading = agent.heading,
			home = agent.home,
			looked = looked,
			sight = agent.def.sight,
			now_s = agent:now(),
			half_life_s = LOOK_HALF_LIFE_S,
			random = agent.random,
		})
		-- Rather not through a danger, but not kept in by them either.
		for _, strict in ipairs({true, false}) do
			agent.dangers.strict = strict
			local tries = 0
			for _, point in ipairs(points) do
				local target = tries < MAX_TRIES and agent.stand(point.x, from.y, point.z)
				local ok, why
				if target then
					tries = tries + 1
					ok, why = agent:walk_to(target, 1, agent.dangers, noticer(agent, job))
				end
				if ok or why == "noticed" or why == "died" then
					agent.dangers.strict = nil
					local pos = agent:pos()
					agent.heading = {x = pos.x - from.x, z = pos.z - from.z}
					return
				end
			end
		end
		agent.dangers.strict = nil
		agent:spend(STUCK_S)
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
		local known, hurt = agent:ask(question(job.kind, pos, FAR), job.careful and caution.question(pos) or nil)
		agent.unreachable = known
		if hurt then
			caution.learn(agent, hurt)
		end
		local best, rate = places.best(places.group(known, job.patch), {
			from = pos,
			now_s = agent:now(),
			regrow_s = job.regrow_s,
			speed = agent.def.speed,
			work_s = job.work_s,
			room = room,
		})
		if not best or rate < job.least_rate then
			local looked = agent:ask(question(job.kind .. "-look", pos, LOOK_FAR))
			return look_around(agent, job, looked)
		end
		agent:say(("I remember %s at (%d,%d,%d)"):format(job.many, best.pos.x, best.pos.y, best.pos.z))
		local ok, why = agent:walk_to(best.pos, job.reach, agent.dangers, noticer(agent, job))
		if ok then
			-- If nothing is there, the next decision remembers it.
			agent.visit = {pos = best.pos, amount = 0}
		elseif why ~= "noticed" and why ~= "died" then
			give_up(agent, job, best.pos)
		end
	end
end
