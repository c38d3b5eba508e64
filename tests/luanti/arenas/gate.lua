-- Visitors come to a guard one after the other. Some attack him whenever they come; one sometimes hits him by accident.

local PEOPLE, ATTACKERS = 12, 3 -- the last of the people is the clumsy one
local EVERY_S = 20 -- between two visitors
local STAYS_S = 3
local ACCIDENT = 0.3 -- the share of visits of the clumsy one with an accident
local HP, FLEES_AT = 12, 4
local REACH, BLOW_S = 2, 1
-- The damage of a blow; the first one counts double if the guard does not expect it.
local BLOW = 3
local SIZE = 48
local EARTH = "basenodes:dirt_with_grass"

local gate = {size = SIZE}

function gate.build(_, plan)
	plan:fill(0, -1, 0, SIZE - 1, 0, SIZE - 1, EARTH)
end

local function hit(visitor, guard, damage)
	guard.object:punch(visitor.object, BLOW_S, {full_punch_interval = BLOW_S, damage_groups = {fleshy = damage}})
end

-- Attacks until he must flee.
local function attack(visitor, guard)
	local first = not guard.watch:fights(visitor.name)
	while visitor.hp > FLEES_AT and guard.hp > 0 do
		if vector.distance(visitor:pos(), guard:pos()) <= REACH then
			hit(visitor, guard, first and 2 * BLOW or BLOW)
			first = false
			visitor:spend(BLOW_S)
		elseif not visitor:walk_to(guard:pos(), REACH) then
			return
		end
	end
end

lorestream_agents.register({
	name = "arenas:visitor",
	title = "Visitor",
	sight = 16,
	speed = 3,
	live = function(visitor)
		local guard, plan = visitor.guard, visitor.plan
		if not plan then
			return
		end
		local known = false
		visitor:walk_to(guard.home, REACH, nil, function()
			known = known or guard.watch:fights(visitor.name)
			return visitor.hp <= FLEES_AT
		end)
		known = known or guard.watch:fights(visitor.name)
		if plan.attacks then
			attack(visitor, guard)
		elseif visitor.hp > FLEES_AT then
			if plan.accident then
				hit(visitor, guard, 1)
			end
			visitor:spend(STAYS_S)
		end
		plan.done(known)
		if visitor.hp > 0 then
			visitor:walk_to(visitor.home, 1)
		end
		visitor.plan = nil
		visitor.object:remove()
	end,
})

function gate.start(arena)
	arena.agent = lorestream_agents.add("lorestream_guard:guard", arenas.at(arena, SIZE / 2, 1, SIZE / 2),
		{number = arena.seed, seed = arena.seed})
	arena.due_s, arena.visitors = 0, {}
	if arena.phase > 1 then
		-- Not the same visitors in the same order.
		arena.random = lorestream_agents.dice(arena.seed + 100000)
	end
	arena.counts = {attacks = 0, returned = 0, known = 0, harmless = 0, false_alarms = 0}
end

-- Who has attacked before, by the seed of the arena and his number; outlives a restart of the server.
local storage = core.get_mod_storage()

local function visit(arena)
	local number = arenas.roll(arena, 1, PEOPLE)
	local side, along = arenas.roll(arena, 1, 4), arenas.roll(arena, 2, SIZE - 3)
	local accident = arena.random() < ACCIDENT
	local x = side == 1 and 2 or side == 2 and SIZE - 3 or along
	local z = side == 3 and 2 or side == 4 and SIZE - 3 or along
	local visitor = lorestream_agents.add("arenas:visitor", arenas.at(arena, x, 1, z),
		{number = arena.seed .. "-" .. number, seed = arena.seed * 1000 + number})
	local key = arena.seed .. "," .. number
	visitor.name, visitor.hp, visitor.guard = ("visitor_%d_%d"):format(arena.seed, number), HP, arena.agent
	visitor.object:get_luaentity().visitor_name = visitor.name
	arena.visitors[visitor] = true
	local attacks, counts = number <= ATTACKERS, arena.counts
	visitor.plan = {attacks = attacks, accident = number == PEOPLE and accident, done = function(known)
		if not attacks then
			counts.harmless = counts.harmless + 1
			counts.false_alarms = counts.false_alarms + (known and 1 or 0)
			return
		end
		counts.attacks = counts.attacks + 1
		if storage:get_int(key) == 1 then
			counts.returned = counts.returned + 1
			counts.known = counts.known + (known and 1 or 0)
		end
		storage:set_int(key, 1)
	end}
end

function gate.step(arena, now_s)
	-- While the guard waits for an answer his clock runs at the speed of the game; so do those of his visitors.
	for visitor in pairs(arena.visitors) do
		visitor.waiting = arena.agent.waiting
		arena.visitors[visitor] = visitor.plan
	end
	if arena.agent.watch and now_s >= arena.due_s then
		arena.due_s = arena.due_s + EVERY_S
		visit(arena)
	end
end

function gate.measure(arena)
	local counts = arena.counts
	counts.damage = arena.agent.tally.damage or 0
	return counts
end

return gate
