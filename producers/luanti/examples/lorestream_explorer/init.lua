-- An explorer: he goes where he has not been, or not for long.

local agents = lorestream_agents
local folder = core.get_modpath(core.get_current_modname())
local mind = assert(loadfile(folder .. "/mind.lua"))(lorestream_agents.weight)

local SIGHT = 12
-- How many places he goes to with one answer of his memory, and how many he tries for each.
local HOPS, TRIES = 5, 4
-- He remembers a walk after this many squares.
local SQUARES = 8
-- How far around the direct way he looks for a path, in nodes.
local SEARCH = 16

local function spot(agent, place)
	return agent.stand(math.floor(place.x + 0.5), agent:pos().y, math.floor(place.z + 0.5))
end

-- Notes the squares that he comes through. Called at each step.
local function tread(agent)
	local square = mind.square(agent:pos())
	if square == agent.square then
		return
	end
	agent.square = square
	table.insert(agent.fresh, square)
	table.insert(agent.trail, square)
	if #agent.trail >= SQUARES then
		agent:remember(mind.memory(agent.trail, agent:pos(), "walked"))
		agent.trail = {}
	end
end

local function explore(agent, memories)
	local function way(place)
		local to = spot(agent, place)
		local path = to and core.find_path(agent:pos(), to, SEARCH, 1, 3, "A*_noprefetch")
		return path and #path
	end
	return mind.choices(memories, agent:pos(), agent.heading, agent:now(), agent.random, way)
end

-- Goes to the best place that can be reached. Returns whether there was one.
local function hop(agent, memories)
	local from = agent:pos()
	local places = agents.remembers and explore(agent, memories)
		or mind.stroll(memories, from, agent.heading, agent:now(), agent.random)
	for i = 1, math.min(TRIES, #places) do
		local to = spot(agent, places[i])
		local ok, why
		if to then
			ok, why = agent:walk_to(to, 0, nil, function()
				tread(agent)
			end)
		end
		if ok or why == "died" then
			agent.heading = mind.direction(from, agent:pos())
			return ok
		end
		local square = mind.square(places[i])
		agent:remember(mind.memory({square}, places[i], "blocked"))
		table.insert(agent.blocked, square)
	end
	agent.heading = nil
	return false
end

agents.register({
	name = "lorestream_explorer:explorer",
	title = "Explorer",
	command = "explorer",
	sight = SIGHT,
	speed = 4,
	live = function(agent)
		agent.trail = agent.trail or {}
		-- What he sees from here on belongs to what he knows, too.
		agent.fresh, agent.blocked = {unpack(agent.trail)}, {}
		tread(agent)
		local memories = agent:ask(mind.about_land(agent:pos()))
		local now_s = agent:now()
		table.insert(memories, {timestamp = now_s, metadata = {squares = agent.fresh, outcome = "walked"}})
		table.insert(memories, {timestamp = now_s, metadata = {squares = agent.blocked, outcome = "blocked"}})
		for _ = 1, HOPS do
			if not hop(agent, memories) then
				return
			end
		end
	end,
})
