-- The whole mod is loaded with a fake engine that notes which settings it reads.

local fake = dofile("tests/luanti/specs/fake_core.lua")
local MOD = "producers/luanti/lorestream"

local function contents(path)
	local file = assert(io.open(path))
	local text = file:read("*a")
	file:close()
	return text
end

describe("the settings", function()
	local seen, offered = {}, {}

	setup(function()
		local core = fake.engine()
		local function read(_, name, default)
			seen[name] = true
			return type(default) == "boolean" and default or nil
		end
		core.settings = {get = read, get_bool = read}
		fake.mod(core)
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
