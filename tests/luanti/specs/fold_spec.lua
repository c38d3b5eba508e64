local fake = dofile("tests/luanti/specs/fake_core.lua")
local Fold = fake.load("fold")

local function yes()
	return true
end

describe("fold", function()
	local closed, fold

	before_each(function()
		closed = {}
		fold = Fold.new(2, function(event)
			closed[#closed + 1] = event
		end)
	end)

	local function dig(agent_id, x, time)
		fold:add({agent_id = agent_id, type = "dig", pos = {x = x, y = 0, z = 0}, data = {}, time = time},
			"default:dirt", "count", 1, time * 1e6)
	end

	it("joins equal events in one block, with the position of the first and the time of the last", function()
		dig("a", 1, 0)
		dig("a", 15, 1)
		fold:step(1.9e6, yes)
		assert.are.equal(0, #closed)
		fold:step(2e6, yes)
		assert.are.same({{agent_id = "a", type = "dig", pos = {x = 1, y = 0, z = 0}, data = {count = 2}, time = 1}}, closed)
		assert.are.equal(0, fold.count)
	end)

	it("does not join events of other agents or blocks", function()
		dig("a", 1, 0)
		dig("b", 1, 0)
		dig("a", 16, 0)
		dig("a", -1, 0)
		fold:close_all()
		assert.are.equal(4, #closed)
	end)

	it("closes the folds of one agent only, in order", function()
		dig("a", 1, 0)
		dig("b", 1, 0)
		dig("a", 17, 0)
		fold:close_agent("a")
		assert.are.same({1, 17}, {closed[1].pos.x, closed[2].pos.x})
		assert.are.equal(1, fold.count)
		fold:close_all()
		assert.are.equal(3, #closed)
	end)

	it("stops when the time is used up", function()
		for x = 0, 9 do
			dig("a", x * 16, 0)
		end
		local budget = 3
		fold:step(3e6, function()
			budget = budget - 1
			return budget >= 0
		end)
		assert.are.equal(3, #closed)
	end)

	it("closes the oldest fold when there are too many", function()
		for x = 1, 1200 do
			dig("a", x * 16, 0)
		end
		assert.are.equal(1000, fold.count)
		assert.are.equal(200, #closed)
	end)
end)
