local MOD = "producers/luanti/examples/lorestream_guard/"
local weight = dofile("producers/luanti/examples/lorestream_agents/weight.lua")
local mind = assert(loadfile(MOD .. "mind.lua"))(weight)
local Watch = dofile(MOD .. "watch.lua")

local DAY = 86400

local function visit(outcome, damage, age_s)
	return {timestamp = 100 * DAY - age_s, metadata = {outcome = outcome, damage = damage}}
end

describe("the guard's mind", function()
	local function dangerous(memories)
		return mind.is_dangerous(memories, 100 * DAY)
	end

	it("is not on the alert about strangers, nor after a blow by accident", function()
		assert.is_false(dangerous({}))
		assert.is_false(dangerous({visit("attack", 1, 60)}))
	end)

	it("is on the alert about one who attacked", function()
		assert.is_true(dangerous({visit("attack", 6, 60)}))
	end)

	it("forgives with time and with visits in peace", function()
		assert.is_false(dangerous({visit("attack", 6, 14 * DAY)}))
		local peace = {visit("attack", 6, 60)}
		for day = 1, 5 do
			peace[#peace + 1] = visit("peace", nil, day)
		end
		assert.is_false(dangerous(peace))
	end)

	it("makes nothing of memories of another kind", function()
		assert.are.equal(0, mind.threat({visit("found", 9, 60), visit("attack", "many", 60)}, 100 * DAY))
	end)

	it("names no visitor in a text", function()
		assert.are.equal("A visitor attacked me: 6 damage", (mind.memory("Bob", 6)))
	end)
end)

describe("the watch", function()
	local now, watch, notes, asked

	before_each(function()
		now, notes, asked = 0, {}, 0
		watch = Watch.new({
			mind = mind,
			clock = function() return now end,
			remember = function(_, metadata)
				table.insert(notes, {timestamp = now, player = metadata.player, metadata = metadata})
			end,
		})
	end)

	local function look(...)
		return watch:look({...}, function(...)
			local answers = {}
			for i, question in ipairs({...}) do
				asked, answers[i] = asked + 1, {}
				for _, note in ipairs(notes) do
					if note.player == question.filters.player then
						table.insert(answers[i], note)
					end
				end
			end
			return unpack(answers)
		end)
	end

	local function leave()
		now = now + Watch.GONE_S + 1
		look()
	end

	it("asks once about each visitor, and remembers a visit when it is over", function()
		look("Ann", "Bob")
		look("Ann", "Bob")
		now = Watch.GONE_S
		look("Ann")
		assert.are.equal(2, asked)
		assert.are.same({}, notes)
		now = Watch.GONE_S + 1
		look("Ann")
		assert.are.same({player = "Bob", outcome = "peace"}, notes[1].metadata)
	end)

	it("fights one who attacks, and knows him when he returns", function()
		look("Bob")
		watch:hit("Bob", 1)
		assert.is_false(watch:fights("Bob"))
		watch:hit("Bob", 5)
		assert.is_true(watch:fights("Bob"))
		leave()
		assert.is_false(watch:fights("Bob"))
		assert.are.same({"Bob"}, look("Ann", "Bob"))
		assert.is_true(watch:fights("Bob"))
		assert.is_false(watch:fights("Ann"))
	end)

	it("remembers the first blow at once, and further ones together", function()
		look("Bob")
		for _ = 1, 4 do
			watch:hit("Bob", 3)
		end
		assert.are.same({player = "Bob", outcome = "attack", damage = 3}, notes[1].metadata)
		assert.are.equal(1, #notes)
		now = Watch.NOTE_S
		look("Bob")
		assert.are.equal(9, notes[2].metadata.damage)
		watch:hit("Bob", 2)
		leave()
		assert.are.equal(2, notes[3].metadata.damage)
		assert.are.equal(3, #notes)
	end)

	it("does not count it as a visit in peace when it drives somebody away", function()
		look("Bob")
		watch:hit("Bob", 6)
		leave()
		look("Bob")
		leave()
		assert.are.equal(1, #notes)
	end)

	it("recognises one who hit before he was seen", function()
		watch:hit("Bob", 6)
		leave()
		watch:hit("Bob", 1)
		assert.are.same({"Bob"}, look("Bob"))
	end)

	it("does not raise an error when a visitor is gone before the answer is there", function()
		local known = watch:look({"Bob"}, function()
			watch.visits = {}
			return {{timestamp = 0, metadata = {outcome = "attack", damage = 9}}}
		end)
		assert.are.same({"Bob"}, known)
		assert.is_false(watch:fights("Bob"))
	end)
end)
