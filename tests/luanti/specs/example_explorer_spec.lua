local weight = dofile("producers/luanti/examples/lorestream_agents/weight.lua")
local mind = assert(loadfile("producers/luanti/examples/lorestream_explorer/mind.lua"))(weight)

local function walk(squares, age_s, outcome)
	return {timestamp = 100000 - age_s, metadata = {squares = squares, outcome = outcome or "walked"}}
end

describe("the explorer's mind", function()
	-- Where he goes from the middle of the square 0,0 over open land.
	local function goes(memories, heading, way)
		local function straight(place)
			return math.sqrt((place.x - 1.5) ^ 2 + (place.z - 1.5) ^ 2)
		end
		local places = mind.choices(memories, {x = 1.5, y = 5, z = 1.5}, heading, 100000, function() return 0 end,
			way or straight)
		return (mind.square(places[1])), places
	end

	it("divides the land into squares", function()
		assert.are.same({"0,-1", 0, -1}, {mind.square({x = 3, z = -1})})
		local middle = mind.middle(-1, 2, 7)
		assert.are.same({"-1,2", -1, 2}, {mind.square(middle)})
		assert.are.equal(7, middle.y)
	end)

	it("goes straight on over unknown land", function()
		assert.are.equal("1,0", (goes({}, {x = 1, z = 0})))
		assert.are.equal("0,-1", (goes({}, {x = 0, z = -1})))
	end)

	it("does not walk where it has just walked", function()
		local around = walk({"1,0", "-1,0", "0,1", "0,-1", "1,1", "1,-1", "-1,1"}, 10)
		assert.are.equal("-1,-1", (goes({around}, {x = 1, z = 0})))
	end)

	it("prefers land seen long ago to land seen lately", function()
		local lately = {}
		for x = -10, 10 do
			for z = -10, 10 do
				lately[#lately + 1] = (x ~= 3 or z ~= -2) and x .. "," .. z or nil
			end
		end
		assert.are.equal("3,-2", (goes({walk(lately, 60), walk({"3,-2"}, mind.HALF_LIFE_S)}, {x = -1, z = 0})))
	end)

	it("leaves out a place that was blocked, and tries it again later", function()
		local blocked = walk({"1,0"}, 10, "blocked")
		assert.are_not.equal("1,0", (goes({blocked}, {x = 1, z = 0})))
		local long_ago = walk({"1,0"}, 5 * mind.BLOCKED_HALF_LIFE_S, "blocked")
		assert.are.equal("1,0", (goes({long_ago}, {x = 1, z = 0})))
	end)

	it("prefers a short way to a short distance, and puts places without a way last", function()
		local first, places = goes({}, {x = 1, z = 0}, function(place)
			local square = mind.square(place)
			if square == "1,0" then
				return 30
			end
			return square ~= "0,1" and 6 or nil
		end)
		assert.are_not.equal("1,0", first)
		assert.are.equal("0,1", (mind.square(places[#places])))
	end)

	it("goes straight on without memories, and not where it has just been", function()
		local function heads(memories)
			local half = function() return 0.5 end
			return mind.stroll(memories, {x = 1.5, y = 5, z = 1.5}, {x = 1, z = 0}, 100000, half)[1]
		end
		assert.is_true(heads({}).x > 10)
		local ahead = {}
		for x = 1, 6 do
			for z = -6, 6 do
				ahead[#ahead + 1] = x .. "," .. z
			end
		end
		assert.is_true(heads({walk(ahead, 5)}).x <= 4)
	end)

	it("makes nothing of memories of another kind", function()
		assert.are.same({}, mind.interest({walk(nil, 60, "found"), walk("0,0", 60)}, 100000))
	end)

	it("describes a walk with its squares and the place where it ended", function()
		local pos = {x = 9, y = 1, z = 2}
		local text, metadata = mind.memory({"0,0", "1,0"}, pos, "walked")
		assert.are.equal("I walked through this land", text)
		assert.are.same({pos = pos, squares = {"0,0", "1,0"}, outcome = "walked"}, metadata)
		assert.is_nil(mind.direction(pos, pos))
		assert.are.same({x = 1, z = 0}, mind.direction({x = 0, z = 0}, {x = 5, z = 0}))
	end)
end)
