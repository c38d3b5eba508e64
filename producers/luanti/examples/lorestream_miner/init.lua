-- A miner: digs the ore that he sees, carries it home, and returns to the vein on ways that did not hurt.

local agents = lorestream_agents

local DIG_S = 2
local UNLOAD_S = 2
local CARRIES = 12

local function dig(agent, pos)
	agent:spend(DIG_S)
	if not agent:dig(pos) then
		return 0
	end
	agent.load = agent.load + 1
	return 1
end

local function room(agent)
	return CARRIES - agent.load
end

local job = {
	kind = "ore",
	nodes = {},
	one = "ore",
	many = "ore",
	reach = 2.5,
	work = dig,
	work_s = DIG_S,
	patch = 8,
	least_rate = 0.15,
	room = room,
	careful = true,
}

-- Ores are what the map generator scatters in the ground.
core.register_on_mods_loaded(function()
	for _, ore in pairs(core.registered_ores) do
		if ore.ore_type == "scatter" and core.registered_nodes[ore.ore] then
			table.insert(job.nodes, ore.ore)
		end
	end
end)

local function carry_home(agent)
	agents.caution.learn(agent, (agent:ask(agents.caution.question(agent:pos()))))
	if agent:walk_to(agent.home, 1, agent.dangers) then
		agent:spend(UNLOAD_S)
		agent:count("ore", agent.load)
		agent.load = 0
	else
		agent:spend(5)
	end
end

agents.register({
	name = "lorestream_miner:miner",
	title = "Miner",
	command = "miner",
	sight = 12,
	speed = 4,
	live = function(agent)
		if room(agent) <= 0 and not agent.visit then
			carry_home(agent)
		else
			agents.gather(agent, job)
		end
	end,
	on_hurt = agents.caution.hurt,
})
