-- Runs each file N.lua in the world's driver folder once, and writes its result (returned or passed to done) to N.json.

local dir = core.get_worldpath() .. "/driver"
core.mkdir(dir)

local function answer(number, result)
	local path = dir .. "/" .. number .. ".json"
	local file = assert(io.open(path .. ".part", "wb"))
	file:write(assert(core.write_json(result)))
	file:close()
	os.rename(path .. ".part", path)
end

local function run(name)
	local number = name:match("^(%d+)%.lua$")
	if not number then
		return
	end
	local file = assert(io.open(dir .. "/" .. name, "rb"))
	local code = file:read("*a")
	file:close()
	os.remove(dir .. "/" .. name)
	local function done(value)
		answer(number, {value = value})
	end
	local chunk, why = loadstring("local done = ...; " .. code, "=driver")
	if not chunk then
		answer(number, {error = why})
		return
	end
	local ok, value = pcall(chunk, done)
	if not ok then
		answer(number, {error = tostring(value)})
	elseif value ~= nil then
		done(value)
	end
end

-- A floor to stand on, because the world is empty.
local function build_floor()
	local stone = core.registered_nodes["default:stone"] and "default:stone" or "basenodes:stone"
	for x = -4, 4 do
		for z = -4, 4 do
			core.set_node({x = x, y = 0, z = z}, {name = stone})
		end
	end
end

core.register_on_joinplayer(function(player)
	core.emerge_area({x = -20, y = -4, z = -20}, {x = 20, y = 20, z = 20}, function(_, _, remaining)
		if remaining == 0 then
			build_floor()
			player:set_pos({x = 0, y = 1, z = 0})
		end
	end)
end)

core.register_globalstep(function()
	for _, name in ipairs(core.get_dir_list(dir, false)) do
		run(name)
	end
end)
