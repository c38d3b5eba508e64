-- A mine of corridors between pillars. Some have collapsed, and in some there is bad air, which cannot be seen.
-- Two kinds: many small veins (the outside of a pillar), or few rich ones (a whole pillar) far away.

local CELL, WIDE, CELLS = 8, 3, 12
local SIZE = CELL * CELLS + WIDE + 2
local HIGH, ROOF = 3, 8
-- far: how far from home the veins are at least, in nodes.
local KINDS = {mine = {veins = 10, high = 2, far = 20}, deep = {veins = 4, high = 3, far = 32, solid = true}}
local COLLAPSED = 0.3
local BAD_AIR = 24
local ROCK = "basenodes:stone"

core.register_node(":arenas:ore", {description = "Ore", tiles = {"default_stone.png"}, groups = {cracky = 3}})
core.register_node(":arenas:bad_air", {description = "Bad air", drawtype = "airlike", walkable = false,
	pointable = false, buildable_to = true, sunlight_propagates = true, paramtype = "light", damage_per_second = 4})
core.register_ore({ore_type = "scatter", ore = "arenas:ore", wherein = "arenas:ore", clust_scarcity = 1000,
	clust_num_ores = 1, clust_size = 1, y_min = -30000, y_max = -29999})

local mine = {size = SIZE}

-- The corner of the junction with these numbers (0 to CELLS).
local function corner(number)
	return 1 + number * CELL
end

-- All corridors between two junctions, as {x, z, east}, in random order; a set of them joins all junctions.
local function corridors(arena)
	local all = {}
	for x = 0, CELLS do
		for z = 0, CELLS do
			if x < CELLS then
				all[#all + 1] = {x = x, z = z, east = true}
			end
			if z < CELLS then
				all[#all + 1] = {x = x, z = z, east = false}
			end
		end
	end
	for i = #all, 2, -1 do
		local j = arenas.roll(arena, 1, i)
		all[i], all[j] = all[j], all[i]
	end
	-- Union-find: a corridor that joins two parts must stay open.
	local root = {}
	local function find(key)
		while root[key] do
			key = root[key]
		end
		return key
	end
	for _, corridor in ipairs(all) do
		local a = find(corridor.x .. "," .. corridor.z)
		local b = find((corridor.x + (corridor.east and 1 or 0)) .. "," .. (corridor.z + (corridor.east and 0 or 1)))
		if a ~= b then
			root[a], corridor.needed = b, true
		end
	end
	return all
end

-- Fills the middle of a corridor, `long` nodes of it.
local function block(plan, corridor, long, high, name)
	local x, z = corner(corridor.x), corner(corridor.z)
	if corridor.east then
		x = x + WIDE + 1
		plan:fill(x, 1, z, x + long - 1, high, z + WIDE - 1, name)
	else
		z = z + WIDE + 1
		plan:fill(x, 1, z, x + WIDE - 1, high, z + long - 1, name)
	end
end

function mine.build(arena, plan)
	plan:fill(0, -1, 0, SIZE - 1, ROOF, SIZE - 1, ROCK)
	for number = 0, CELLS do
		local at = corner(number)
		plan:fill(at, 1, 1, at + WIDE - 1, HIGH, SIZE - 2, "air")
		plan:fill(1, 1, at, SIZE - 2, HIGH, at + WIDE - 1, "air")
	end
	local home = CELLS / 2
	local open = {}
	for _, corridor in ipairs(corridors(arena)) do
		if not corridor.needed and arena.random() < COLLAPSED then
			block(plan, corridor, 3, HIGH, ROCK)
		elseif math.abs(corridor.x - home) + math.abs(corridor.z - home) > 1 then
			open[#open + 1] = corridor
		end
	end
	for i = 1, BAD_AIR do
		block(plan, open[i], 2, HIGH, "arenas:bad_air")
	end
	local kind, veins = KINDS[arena.kind], {}
	while #veins < kind.veins do
		local vein = {x = arenas.roll(arena, 0, CELLS - 1), z = arenas.roll(arena, 0, CELLS - 1)}
		local free = math.max(math.abs(vein.x + 0.5 - home), math.abs(vein.z + 0.5 - home)) * CELL >= kind.far
		for _, other in ipairs(veins) do
			free = free and math.abs(vein.x - other.x) + math.abs(vein.z - other.z) > 1
		end
		if free then
			veins[#veins + 1] = vein
			local x, z = corner(vein.x) + WIDE, corner(vein.z) + WIDE
			local last = CELL - WIDE - 1
			plan:fill(x, 1, z, x + last, kind.high, z + last, "arenas:ore")
			if not kind.solid then
				plan:fill(x + 1, 1, z + 1, x + last - 1, kind.high, z + last - 1, ROCK)
			end
		end
	end
end

function mine.start(arena)
	local home = corner(CELLS / 2) + 1
	arena.agent = lorestream_agents.add("lorestream_miner:miner", arenas.at(arena, home, 1, home),
		{number = arena.seed, seed = arena.seed})
end

function mine.measure(arena)
	return {ore = arena.agent.tally.ore or 0, damage = arena.agent.tally.damage or 0}
end

return mine
