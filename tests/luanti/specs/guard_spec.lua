local fake = dofile("tests/luanti/specs/fake_core.lua")

describe("guard", function()
	local guard, logged

	before_each(function()
		logged = {}
		guard = fake.load("guard")(function(level, text)
			logged[#logged + 1] = level .. ": " .. text
		end)
	end)

	it("passes arguments and results, nil among them", function()
		local both = guard.wrap("the sum", function(a, b, c)
			return c, nil, a + b
		end)
		assert.are.same({n = 3, "x", nil, 5}, {n = select("#", both(2, 3, "x")), both(2, 3, "x")})
		assert.are.equal(0, guard.errors)
	end)

	it("turns an error into nil, counts it, and logs each place once", function()
		local fail = guard.wrap("the step", function(here)
			if here then
				error("first place")
			end
			error("second place")
		end)
		for _ = 1, 3 do
			assert.are.equal(0, select("#", fail(true)) - 1)
			assert.is_nil(fail(false))
		end
		assert.are.equal(6, guard.errors)
		assert.are.equal(2, #logged)
		assert.is_truthy(logged[1]:find("error: the step failed.*first place"))
		assert.is_truthy(guard.last_error:find("second place", 1, true))
	end)

	it("catches errors that are not strings, even where tostring raises", function()
		local fail = guard.wrap("the step", function(value)
			error(value)
		end)
		fail(setmetatable({}, {__tostring = function() error("again") end}))
		fail(nil)
		fail(print)
		assert.are.equal(3, guard.errors)
		assert.are.equal(1, #logged)
	end)

	it("catches an overflow of the stack", function()
		local function deep(n)
			return 1 + deep(n + 1)
		end
		guard.wrap("the depth", deep)(1)
		assert.are.equal(1, guard.errors)
	end)
end)

describe("each entry from the engine", function()
	local NOTHING = {}
	local WRONG = {NOTHING, {}, 5, "text", true, function() end}

	it("raises no error and returns nothing, whatever arguments it gets", function()
		local core, command, now = fake.engine(), nil, 1e6
		core.get_us_time = function() -- shutdown waits until a second has passed
			now = now + 1000
			return now
		end
		local prototype = {name = "mod:thing", _cmi_is_mob = true, on_punch = function() end}
		core.registered_entities = {["mod:thing"] = prototype}
		core.entries.after = {}
		core.after = function(_, fn)
			table.insert(core.entries.after, fn)
		end
		core.registered_chatcommands.me = {func = function() return true end}
		core.register_chatcommand = function(_, definition)
			command = definition.func
		end
		local mod = fake.mod(core)
		local called = 0
		local function call(fn, ...)
			for _, first in ipairs(WRONG) do
				for _, second in ipairs(WRONG) do
					local a, b = first ~= NOTHING and first or nil, second ~= NOTHING and second or nil
					local ok, result = pcall(fn, a, b, ...)
					assert.is_true(ok, result)
					assert.is_nil(result)
					called = called + 1
				end
			end
		end
		for i = 1, #core.entries.after do
			core.entries.after[i]()
		end
		assert.is_truthy(core.entries.chat_message)
		local events = {}
		for event in pairs(core.entries) do
			events[#events + 1] = event
		end
		table.sort(events, function(a, b) -- shutdown at the end
			return b == "shutdown" and a ~= b or a ~= "shutdown" and a < b
		end)
		assert.is_true(#events > 10)
		for _, event in ipairs(events) do
			-- Some of them register more.
			for i = 1, event ~= "mods_loaded" and #core.entries[event] or 0 do
				call(core.entries[event][i], {}, "x", 5)
			end
		end
		for _, method in ipairs({"on_punch", "on_death", "on_deactivate"}) do
			call(prototype[method], {}, "x", 5)
		end
		for _, first in ipairs(WRONG) do
			assert.is_true((pcall(command, first, first)))
		end
		assert.is_true(called > 900)
		assert.is_true(mod.status().errors > 0)
	end)
end)
