-- A wide meadow with a few groves. Cut trees grow again, except in one grove. Some trees stand behind fences.

local SIZE = 128
local GROVES, TREES, HEIGHT = 6, 5, 3
local APART, RADIUS = 24, 5
local REGROW_S = 180
local FENCED, WALLS = 2, 6
local TRUNK, EARTH, WALL = "basenodes:tree", "basenodes:dirt_with_grass", "basenodes:stone"

local forest = {size = SIZE}

local function distance(a, b)
	return math.sqrt((a.x - b.x) ^ 2 + (a.z - b.z) ^ 2)
end

-- A random spot at least this far from all others and from the border.
local function spot(arena, others, apart, border)
	for _ = 1, 1000 do
		local found = {x = arenas.roll(arena, border, SIZE - 1 - border), z = arenas.roll(arena, border, SIZE - 1 - border)}
		local free = true
		for _, other in ipairs(others) do
			free = free and distance(found, other) >= apart
		end
		if free then
			return found
		end
	end
	error("no room in the arena")
end

function forest.build(arena, plan)
	plan:fill(0, -1, 0, SIZE - 1, 0, SIZE - 1, EARTH)
	for _, wall in ipairs({{0, 0, SIZE - 1, 0}, {0, SIZE - 1, SIZE - 1, SIZE - 1}, {0, 0, 0, SIZE - 1},
		{SIZE - 1, 0, SIZE - 1, SIZE - 1}}) do
		plan:fill(wall[1], 1, wall[2], wall[3], 3, wall[4], WALL)
	end
	local start = {x = SIZE / 2, z = SIZE / 2}
	local groves = {}
	for _ = 1, GROVES do
		groves[#groves + 1] = spot(arena, groves, APART, 12)
	end
	-- Walls first, so that trees replace them and not the other way round.
	for _ = 1, WALLS do
		local from, long = spot(arena, {start}, 10, 24), arenas.roll(arena, 12, 20)
		local east = arena.random() < 0.5
		plan:fill(from.x, 1, from.z, from.x + (east and long or 0), 3, from.z + (east and 0 or long), WALL)
	end
	arena.trees = {}
	for number, grove in ipairs(groves) do
		plan:fill(grove.x - RADIUS - 1, 1, grove.z - RADIUS - 1, grove.x + RADIUS + 1, 3, grove.z + RADIUS + 1, "air")
		local trees = {}
		while #trees < TREES do
			local tree = {x = grove.x + arenas.roll(arena, -RADIUS, RADIUS), z = grove.z + arenas.roll(arena, -RADIUS, RADIUS)}
			local free = true
			for _, other in ipairs(trees) do
				free = free and distance(tree, other) >= 2
			end
			if free then
				trees[#trees + 1] = tree
				plan:fill(tree.x, 1, tree.z, tree.x, HEIGHT, tree.z, TRUNK)
				table.insert(arena.trees, {x = tree.x, z = tree.z, grows = number < GROVES})
			end
		end
	end
	for _ = 1, FENCED do
		local tree = spot(arena, groves, 14, 8)
		plan:fill(tree.x - 3, 1, tree.z - 3, tree.x + 3, 2, tree.z + 3, WALL)
		plan:fill(tree.x - 2, 1, tree.z - 2, tree.x + 2, 2, tree.z + 2, "air")
		plan:fill(tree.x, 1, tree.z, tree.x, HEIGHT + 1, tree.z, TRUNK)
	end
	plan:fill(start.x, 1, start.z, start.x, 3, start.z, "air")
end

function forest.start(arena)
	arena.agent = lorestream_agents.add("lorestream_woodcutter:woodcutter", arenas.at(arena, SIZE / 2, 1, SIZE / 2),
		{number = arena.seed, seed = arena.seed})
end

function forest.step(arena, now_s)
	for _, tree in ipairs(arena.trees) do
		local foot = arenas.at(arena, tree.x, 1, tree.z)
		if tree.due_s and now_s >= tree.due_s then
			tree.due_s = nil
			for up = 0, HEIGHT - 1 do
				core.set_node(vector.offset(foot, 0, up, 0), {name = TRUNK})
			end
		elseif tree.grows and not tree.due_s and core.get_node(vector.offset(foot, 0, HEIGHT - 1, 0)).name == "air" then
			tree.due_s = now_s + REGROW_S
		end
	end
end

function forest.measure(arena)
	return {wood = arena.agent.tally.wood or 0}
end

return forest
