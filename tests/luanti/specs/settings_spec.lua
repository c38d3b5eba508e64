-- The whole mod is loaded with a fake engine that notes which settings it reads.

local fake = dofile("tests/luanti/specs/fake_core.lua")
local MOD = "producers/luanti/lorestream"

local function contents(path)
	local file = assert(io.open(path))
	local text = file:read("*a")
	file:close()
	return text
end

-- An engine in which every function exists and does nothing, and every list is empty.
local function engine(seen)
	local function read(_, name, default)
		seen[name] = true
		return type(default) == "boolean" and default or nil
	end
	local known = fake.core()
	known.settings = {get = read, get_bool = read}
	known.get_translator = function()
		return function(text)
			return text
		end
	end
	known.get_us_time = function()
		return 1e6
	end
	known.get_worldpath = function()
		return os.tmpname() .. "-absent"
	end
	known.get_modpath = function()
		return MOD
	end
	known.get_mod_storage = function()
		return setmetatable({}, {__index = function()
			return function()
				return ""
			end
		end})
	end
	known.request_http_api = function()
		return {fetch_async = function() end, fetch_async_get = function()
			return {completed = false}
		end}
	end
	known.get_dir_list = function()
		return {}
	end
	known.get_connected_players = known.get_dir_list
	return setmetatable(known, {__index = function(_, name)
		if name:find("^registered_") then
			return {}
		end
		return function() end
	end})
end

describe("the settings", function()
	local seen, offered = {}, {}

	setup(function()
		local kept = {core = _G.core, lorestream = rawget(_G, "lorestream"), memory = rawget(_G, "memory")}
		_G.core = engine(seen)
		dofile(MOD .. "/init.lua")
		_G.core, _G.lorestream, _G.memory = kept.core, kept.lorestream, kept.memory
		for name in contents(MOD .. "/settingtypes.txt"):gmatch("\n(lorestream%.[%w_.]+) %([^\n]+%) %l+") do
			assert.is_nil(offered[name], name)
			offered[name] = true
		end
	end)

	it("in settingtypes.txt are exactly those that the mod reads", function()
		assert.is_true(seen["lorestream.url"])
		local read = {}
		for name in pairs(seen) do
			if name:find("^lorestream%.") then
				read[name] = true
			end
		end
		assert.same(read, offered)
	end)

	it("are all explained in api.md", function()
		local api = contents(MOD .. "/api.md")
		for name in pairs(offered) do
			-- Settings for each type of event share one line.
			local listed = name:gsub("^(lorestream%.%w+)%..+$", "%1.TYPE")
			assert.is_truthy(api:find("| `" .. listed .. "` |", 1, true), listed)
		end
	end)
end)
