local fake = dofile("tests/luanti/specs/fake_core.lua")
local Bindings = fake.load("bind")
local encode = fake.load("encode")

describe("bind", function()
	local bindings, definition, activated

	before_each(function()
		bindings = Bindings.new(encode.agent_fault)
		activated = {}
		definition = {
			name = "c:guard",
			get_staticdata = function(self) return self.data end,
			on_activate = function(self, staticdata, dtime_s)
				self.data = staticdata
				activated[#activated + 1] = {staticdata, dtime_s}
			end,
		}
		bindings:restore_in(definition)
	end)

	-- An entity as the engine makes it: activated with the data that were saved.
	local function entity(staticdata, prototype)
		local made = setmetatable({object = {}}, {__index = prototype or definition})
		made:on_activate(staticdata, 7)
		return made
	end

	it("keeps the id behind the entity's own data, which the entity alone gets back", function()
		local first = entity("return {health = 3}")
		assert.are.equal("return {health = 3}", first:get_staticdata())
		assert.are.equal("npc:a", bindings:bind(first, "npc:a"))
		assert.are.equal("npc:b", bindings:bind(first, "npc:b"))
		local saved = first:get_staticdata()
		assert.are.same({health = 3}, assert(loadstring(saved))())
		bindings = Bindings.new(encode.agent_fault)
		definition.on_activate = nil
		definition.on_activate = function(self, staticdata) self.data = staticdata end
		bindings:restore_in(definition)
		local second = entity(saved)
		assert.are.equal("return {health = 3}", second.data)
		assert.are.equal("npc:b", bindings:agent_of(second))
		assert.are.equal(saved, second:get_staticdata())
		assert.are.equal(saved, second:get_staticdata())
	end)

	it("passes the arguments of on_activate through and leaves other entities alone", function()
		local plain = entity("7")
		assert.are.same({{"7", 7}}, activated)
		assert.is_nil(rawget(plain, "get_staticdata"))
		assert.is_nil(bindings:agent_of(plain))
	end)

	it("works for entities without callbacks of their own", function()
		local bare = {name = "c:bare"}
		bindings:restore_in(bare)
		local first = entity("", bare)
		bindings:bind(first, "npc:a")
		assert.are.equal("npc:a", bindings:agent_of(entity(first:get_staticdata(), bare)))
	end)

	it("refuses what is no entity or no agent id", function()
		for _, wrong in ipairs({{nil, "npc:a"}, {{}, "npc:a"}, {entity(""), ""}, {entity(""), 5}, {entity(""), "a\nb"},
			{entity("", {name = "__builtin:item", on_activate = function() end}), "npc:a"}}) do
			local id, why = bindings:bind(wrong[1], wrong[2])
			assert.is_nil(id)
			assert.is_string(why)
		end
	end)
end)
