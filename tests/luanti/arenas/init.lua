-- Builds arenas side by side in an empty world, lets one character (or several) play in each, and measures.
--
-- arenas.register(kind, {
--   size                nodes, the side of the square
--   build(arena)        sets the nodes; see Plan below
--   start(arena)        adds the characters; sets arena.agent, whose clock is that of the arena
--   step(arena, now_s)  optional: each server step, with the seconds played
--   measure(arena)      a table of numbers
-- })
-- An arena: {kind, seed, phase, number, random (0 to 1), size, origin (its corner; the ground is at y = 0)}.

local SIDE_GAP = 16
-- Everything lies in one layer of map blocks.
local GROUND_Y, LOW, HIGH = 7, 0, 15

arenas = {kinds = {}}
local running, results

function arenas.register(kind, def)
	arenas.kinds[kind] = def
end

-- What is to be built: plan:fill(x1, y1, z1, x2, y2, z2, name), in the arena's own coordinates.
local Plan = {}
Plan.__index = Plan

local function plan_of(arena)
	local low = vector.offset(arena.origin, 0, LOW - GROUND_Y, 0)
	local high = vector.offset(arena.origin, arena.size - 1, HIGH - GROUND_Y, arena.size - 1)
	local manip = core.get_voxel_manip()
	local minp, maxp = manip:read_from_map(low, high)
	local plan = setmetatable({arena = arena, manip = manip, ids = {}}, Plan)
	plan.area, plan.data = VoxelArea:new({MinEdge = minp, MaxEdge = maxp}), manip:get_data()
	return plan
end

function Plan:fill(x1, y1, z1, x2, y2, z2, name)
	local id = core.get_content_id(name)
	local low, high = vector.offset(self.arena.origin, x1, y1, z1), vector.offset(self.arena.origin, x2, y2, z2)
	for index in self.area:iterp(low, high) do
		self.data[index] = id
	end
end

-- The position in the world of x, y, z in the arena.
function arenas.at(arena, x, y, z)
	return vector.offset(arena.origin, x, y, z)
end

-- A whole number from low to high.
function arenas.roll(arena, low, high)
	return low + math.floor(arena.random() * (high - low + 1))
end

local function prepare(arena, def, done)
	local low = vector.offset(arena.origin, 0, LOW - GROUND_Y, 0)
	local high = vector.offset(arena.origin, arena.size - 1, HIGH - GROUND_Y, arena.size - 1)
	core.emerge_area(low, high, function(_, _, remaining)
		if remaining > 0 then
			return
		end
		local plan = plan_of(arena)
		arena.plan = plan
		def.build(arena, plan)
		plan.manip:set_data(plan.data)
		plan.manip:write_to_map(true)
		for x = low.x, high.x, 16 do
			for z = low.z, high.z, 16 do
				assert(core.forceload_block(vector.new(x, low.y, z), true), "too few forceloaded blocks are allowed")
			end
		end
		done()
	end)
end

-- Starts one arena for each seed. options: kind, seeds, seconds (how long each plays, on its own clock), phase (1; 2
-- after a restart of the server: the arenas stand already, and are not built again).
function arenas.run(options)
	local def = arenas.kinds[options.kind]
	results, running = {}, {}
	local stride = math.ceil((def.size + SIDE_GAP) / 16) * 16
	for number, seed in ipairs(options.seeds) do
		local arena = {kind = options.kind, seed = seed, number = number, size = def.size,
			random = lorestream_agents.dice(seed),
			phase = options.phase or 1, origin = vector.new((number - 1) * stride, GROUND_Y, 0)}
		running[number] = arena
		prepare(arena, def, function()
			-- The blocks become active within the next steps.
			core.after(3, function()
				def.start(arena)
				arena.began_s = arena.agent:now()
				arena.ends_s = arena.began_s + options.seconds
			end)
		end)
	end
	arenas.def = def
end

core.register_globalstep(function()
	for number, arena in pairs(running or {}) do
		if arena.agent then
			local now_s = arena.agent:now()
			if arenas.def.step then
				arenas.def.step(arena, now_s - arena.began_s)
			end
			if now_s >= arena.ends_s then
				results[#results + 1] = {seed = arena.seed, values = arenas.def.measure(arena)}
				arena.agent.object:remove()
				running[number] = nil
			end
		end
	end
end)

-- The results when all arenas have ended, as a list of {seed, values}; until then the number of those that play.
function arenas.results()
	local open = 0
	for _ in pairs(running) do
		open = open + 1
	end
	return open > 0 and open or results
end

local path = core.get_modpath(core.get_current_modname())
local function with(mod, file, ...)
	if core.get_modpath(mod) then
		local made = dofile(path .. "/" .. file .. ".lua")
		for _, kind in ipairs({...}) do
			arenas.register(kind, made)
		end
	end
end
with("lorestream_woodcutter", "forest", "forest")
with("lorestream_miner", "mine", "mine", "deep")
with("lorestream_trader", "market", "market")
with("lorestream_guard", "gate", "gate")
with("lorestream_explorer", "land", "land")
