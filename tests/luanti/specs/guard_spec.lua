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
