-- Ruins of square rooms. Every room can be reached; some neighbours have a door more than that needs.

local ROOM, ROOMS = 12, 8 -- the side of a room with one of its walls in nodes, the rooms along a side
local DOOR = 2
local EXTRA_DOORS = 0.3
local SQUARE = 4 -- the side of a square that counts as covered, in nodes
local EARTH, WALL = "basenodes:dirt_with_grass", "basenodes:stone"
local SIZE = ROOM * ROOMS + 1

local land = {size = SIZE}

-- The pairs of neighbouring rooms as {x, z, east}, in random order.
local function neighbours(arena)
	local all = {}
	for x = 0, ROOMS - 1 do
		for z = 0, ROOMS - 1 do
			for _, east in ipairs({true, false}) do
				if (east and x or z) < ROOMS - 1 then
					table.insert(all, arenas.roll(arena, 1, #all + 1), {x = x, z = z, east = east})
				end
			end
		end
	end
	return all
end

function land.build(arena, plan)
	plan:fill(0, -1, 0, SIZE - 1, 0, SIZE - 1, EARTH)
	for number = 0, ROOMS do
		local at = number * ROOM
		plan:fill(at, 1, 0, at, 3, SIZE - 1, WALL)
		plan:fill(0, 1, at, SIZE - 1, 3, at, WALL)
	end
	-- Union-find: two parts of the land get a door between them.
	local part = {}
	local function find(room)
		while part[room] do
			room = part[room]
		end
		return room
	end
	for _, pair in ipairs(neighbours(arena)) do
		local x, z, east = pair.x, pair.z, pair.east
		local a, b = find(x .. "," .. z), find((x + (east and 1 or 0)) .. "," .. (z + (east and 0 or 1)))
		if a ~= b then
			part[a] = b
		end
		if arena.random() < EXTRA_DOORS or a ~= b then
			local along = arenas.roll(arena, 1, ROOM - DOOR)
			if east then
				plan:fill((x + 1) * ROOM, 1, z * ROOM + along, (x + 1) * ROOM, 2, z * ROOM + along + DOOR - 1, "air")
			else
				plan:fill(x * ROOM + along, 1, (z + 1) * ROOM, x * ROOM + along + DOOR - 1, 2, (z + 1) * ROOM, "air")
			end
		end
	end
end

function land.start(arena)
	local x, z = arenas.roll(arena, 0, ROOMS - 1) * ROOM + ROOM / 2, arenas.roll(arena, 0, ROOMS - 1) * ROOM + ROOM / 2
	local agent = lorestream_agents.add("lorestream_explorer:explorer", arenas.at(arena, x, 1, z),
		{number = arena.seed, seed = arena.seed})
	arena.agent, arena.ground = agent, 0
	local covered, move = {}, agent.move
	function agent:move(node)
		move(self, node)
		local square = math.floor((node.x - arena.origin.x) / SQUARE) .. "," .. math.floor((node.z - arena.origin.z) / SQUARE)
		if not covered[square] then
			covered[square] = true
			arena.ground = arena.ground + 1
		end
	end
end

function land.measure(arena)
	return {ground = arena.ground}
end

return land
