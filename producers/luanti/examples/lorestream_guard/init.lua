-- A guard: he knows people who attacked him or others before, and is on the alert when they return.

local agents = lorestream_agents
local path = core.get_modpath(core.get_current_modname())
local mind, Watch = assert(loadfile(path .. "/mind.lua"))(lorestream_agents.weight), dofile(path .. "/watch.lua")

local SIGHT = 16
local REACH = 3
local BLOW_S = 1
local BLOW = {full_punch_interval = BLOW_S, damage_groups = {fleshy = 6}}
-- How far he follows an attacker from his post, in nodes.
local LEASH = 12

-- The name of a person: a player, or an entity with the field `visitor_name`.
local function name_of(object)
	if object.is_fake_player then
		return nil -- a machine of another mod that says that it is a player
	elseif object:is_player() then
		return object:get_player_name()
	end
	local entity = object:get_luaentity()
	return entity and entity.visitor_name
end

local function watch_of(agent)
	agent.watch = agent.watch or Watch.new({
		mind = mind,
		clock = function()
			return agent:now()
		end,
		remember = function(text, metadata)
			metadata.pos = agent:pos()
			agent:remember(text, metadata)
		end,
	})
	return agent.watch
end

-- The people in sight, the nearest first, as {name, object, way}.
local function people(agent)
	local from, found = agent.object:get_pos(), {}
	for _, object in ipairs(core.get_objects_inside_radius(from, SIGHT)) do
		local name = name_of(object)
		if name and core.line_of_sight(vector.offset(from, 0, 1, 0), vector.offset(object:get_pos(), 0, 1, 0)) then
			found[#found + 1] = {name = name, object = object, way = vector.distance(from, object:get_pos())}
		end
	end
	table.sort(found, function(a, b)
		return a.way < b.way
	end)
	return found
end

local function fight(agent, enemy)
	local pos = enemy.object:get_pos()
	if not pos then
		return
	elseif vector.distance(agent.object:get_pos(), pos) <= REACH then
		enemy.object:punch(agent.object, BLOW_S, BLOW, vector.direction(agent.object:get_pos(), pos))
		agent:spend(BLOW_S)
	elseif vector.distance(agent.home, pos) <= LEASH then
		local steps = 0
		agent:walk_to(pos, REACH, nil, function()
			steps = steps + 1
			return steps > 1
		end)
	end
end

agents.register({
	name = "lorestream_guard:guard",
	title = "Guard",
	command = "guard",
	sight = SIGHT,
	speed = 4,
	live = function(agent)
		local watch, seen, names = watch_of(agent), people(agent), {}
		for i, person in ipairs(seen) do
			names[i] = person.name
		end
		local known = watch:look(names, function(...)
			return agent:ask(...)
		end)
		if #known > 0 then
			agent:say("I know you. Stay away!")
		end
		for _, person in ipairs(seen) do
			if watch:fights(person.name) then
				return fight(agent, person)
			end
		end
		if vector.distance(agent:pos(), agent.home) > 1 then
			agent:walk_to(agent.home, 1)
		end
	end,
	on_punch = function(agent, puncher, damage)
		local name = name_of(puncher)
		if name then
			watch_of(agent):hit(name, damage)
		end
	end,
})

-- An attack on another player in his sight is an attack, too.
core.register_on_punchplayer(function(player, hitter, _, _, _, damage)
	local name = hitter and hitter:is_player() and damage > 0 and name_of(hitter)
	for _, agent in pairs(name and agents.active or {}) do
		if agent.watch and vector.distance(agent:pos(), player:get_pos()) <= SIGHT then
			agent.watch:hit(name, damage)
		end
	end
end)
