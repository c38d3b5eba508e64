local FOLDER = "producers/luanti/examples/lorestream_agents/"
local Notes = dofile(FOLDER .. "notes.lua")
local weight = dofile(FOLDER .. "weight.lua")
local places = assert(loadfile(FOLDER .. "places.lua"))(weight)
local wander = assert(loadfile(FOLDER .. "wander.lua"))(weight)
local route = dofile(FOLDER .. "route.lua")
local caution = dofile(FOLDER .. "caution.lua")(places)
local MemoryOf = dofile(FOLDER .. "memory.lua")

local function at(x, z)
	return {x = x, y = 0, z = z or 0}
end

local function memory(time, pos, outcome, amount, left)
	return {text = outcome .. time, timestamp = time, pos = pos,
		metadata = {outcome = outcome, amount = amount, left = left}}
end

describe("notes of the last seconds", function()
	it("answer by filters and place, the newest first, and are soon forgotten", function()
		local notes = Notes.new()
		notes:add("old", {kind = "trees", pos = at(0)}, 0)
		notes:add("far", {kind = "trees", pos = at(50)}, 2)
		notes:add("near", {kind = "trees", outcome = "found", pos = at(3)}, 4)
		notes:add("by a player", {kind = "visit", player = "ann"}, 6)
		local function texts(question, now_s)
			local found = {}
			for _, note in ipairs(notes:answer(question, now_s)) do
				found[#found + 1] = note.text
			end
			return found
		end
		assert.are.same({"near", "old"}, texts({filters = {kind = "trees"}, near = {x = 0, z = 0, radius = 9}}, 15))
		assert.are.same({"near"}, texts({filters = {outcome = {["in"] = {"found", "nothing"}}}}, 15))
		assert.are.same({"by a player"}, texts({filters = {player = "ann"}}, 15))
		assert.are.same({"by a player", "near", "far"}, texts({}, 16))
	end)
end)

describe("the memory of a character", function()
	it("joins the service's answer with the notes, each once, and keeps to the character's clock", function()
		local now_s, kept = 100.04, {}
		local Memory = MemoryOf(Notes, {
			put = function(agent_id, text, metadata, ttl)
				kept[#kept + 1] = {agent_id = agent_id, text = text, metadata = metadata, pos = metadata.pos, ttl = ttl}
			end,
			recall = function(_, _, callback)
				callback({kept[1], {text = "older", timestamp = 9e9, metadata = {at = 7}}, {text = "of another mod"}}, "late")
			end,
		})
		local mind = Memory.new("npc:a", function()
			return now_s
		end)
		mind:remember("a tree", {kind = "trees", pos = at(1)}, 60)
		mind:remember("another", {kind = "trees", pos = at(2)})
		assert.are.same({"npc:a", 100, 60}, {kept[1].agent_id, kept[1].metadata.at, kept[1].ttl})
		local found, trouble = nil, nil
		mind:recall({}, function(notes, err)
			found, trouble = notes, err
		end)
		assert.are.equal("late", trouble)
		assert.are.same({{"another", 100}, {"a tree", 100}, {"older", 7}}, {
			{found[1].text, found[1].timestamp}, {found[2].text, found[2].timestamp}, {found[3].text, found[3].timestamp}})
		assert.are.equal(3, #found)
	end)

	it("consists of the notes alone without lorestream", function()
		local mind = MemoryOf(Notes, nil).new("npc:a", function()
			return 5
		end)
		mind:remember("a tree", {kind = "trees"})
		local found
		mind:recall({filters = {kind = "trees"}}, function(notes)
			found = notes
		end)
		assert.are.equal("a tree", found[1].text)
	end)
end)

describe("what is expected at a place", function()
	local function expected(memories, now_s, regrow_s)
		return places.expected(places.group(memories, 5)[1], now_s, regrow_s)
	end

	it("grows again with the age of the visit", function()
		local visit = {memory(0, at(0), "found", 8, 1)}
		assert.are.equal(1, expected(visit, 0, 600))
		assert.are.equal(1, expected(visit, 599, 600))
		assert.are.equal(9, expected(visit, 600, 600))
		assert.are.equal(9, expected(visit, 6000, 600))
		assert.are.equal(1, expected(visit, 6000, nil))
	end)

	it("falls with each visit in vain, and is nothing where nothing was ever found", function()
		local visits = {memory(900, at(1), "nothing"), memory(800, at(0), "nothing"), memory(0, at(0), "found", 8, 3)}
		assert.are.equal(0.5, expected(visits, 1500, 600))
		assert.are.equal(0, expected({memory(0, at(0), "nothing")}, 1500, 600))
	end)

	it("is nothing for an hour where there was no way", function()
		local visits = {memory(100, at(0), "unreachable"), memory(0, at(0), "found", 8, 0)}
		assert.are.equal(0, expected(visits, 3600, 600))
		assert.are.equal(2, expected(visits, 3701, 600))
	end)
end)

describe("the choice of a place", function()
	local options = {from = at(0), now_s = 1000, regrow_s = 600, speed = 4, work_s = 1}

	it("weighs the way against what is there", function()
		local near, far = memory(0, at(8), "found", 1, 0), memory(0, at(40), "found", 20, 0)
		local best, rate = places.best(places.group({near, far}, 5), options)
		assert.are.equal(far.pos, best.pos)
		assert.are.equal(20 / (10 + 20 + 1), rate)
	end)

	it("leaves out what has just been taken", function()
		local cut, grown = memory(990, at(4), "found", 8, 0), memory(100, at(40), "found", 4, 0)
		assert.are.equal(grown.pos, places.best(places.group({cut, grown}, 5), options).pos)
		assert.is_nil((places.best({}, options)))
	end)
end)

describe("looking around", function()
	it("goes straight on, and not where he looked a moment ago", function()
		local function first(looked, heading, now_s, home)
			local points = {{x = 15, z = 0}, {x = -15, z = 0}, {x = 0, z = 15}}
			return wander.sort(points, {from = at(0), home = home or at(0), heading = heading, looked = looked, sight = 12,
				now_s = now_s, half_life_s = 100, random = function()
					return 0
				end})[1]
		end
		assert.are.equal(15, first({}, {x = 3, z = 0}, 0).x)
		assert.are_not.equal(15, first({memory(0, at(15), "nothing")}, {x = 3, z = 0}, 0).x)
		assert.are.equal(15, first({memory(0, at(15), "nothing")}, {x = 3, z = 0}, 1000).x)
		assert.is_true(first({}, nil, 0, at(-99)).x < 0)
	end)
end)

describe("a way with dangers", function()
	-- Straight lines on an endless plain.
	local function line(from, to)
		local steps = math.max(math.abs(to.x - from.x), math.abs(to.z - from.z))
		local path = {}
		for i = 0, steps do
			path[#path + 1] = {x = from.x + (to.x - from.x) * i / steps, y = 0, z = from.z + (to.z - from.z) * i / steps}
		end
		return path
	end
	local function stand(x, y, z)
		return {x = x, y = y, z = z}
	end

	it("is the direct one if it passes none", function()
		local path = route.around(line(at(0), at(30)), {{pos = at(15, 9), damage = 5}}, line, stand)
		assert.are.equal(31, #path)
	end)

	it("goes around one, if that is not too long", function()
		local danger = {pos = at(15), damage = 2}
		local path = route.around(line(at(0), at(30)), {danger}, line, stand)
		assert.are.same({}, (route.passed(path, {danger})))
		assert.are.same({at(0), at(30)}, {path[1], path[#path]})
		danger.damage = 0.01
		assert.are.equal(31, #route.around(line(at(0), at(30)), {danger}, line, stand))
	end)

	it("goes through it if there is no other", function()
		local path = route.around(line(at(0), at(30)), {{pos = at(15), damage = 2}}, line, function() end)
		assert.are.equal(31, #path)
	end)
end)

describe("caution", function()
	it("remembers a danger once, and lets it fade", function()
		local remembered = {}
		local agent = {
			pos = function()
				return at(3)
			end,
			now = function()
				return caution.HALF_LIFE_S
			end,
			remember = function(_, text, metadata)
				remembered[#remembered + 1] = {text = text, metadata = metadata}
			end,
		}
		caution.hurt(agent, 2, "arenas:bad_air")
		caution.hurt(agent, 2, "arenas:bad_air")
		assert.are.equal(1, #remembered)
		assert.are.equal("I was hurt here by bad_air", remembered[1].text)
		caution.learn(agent, {memory(0, at(3), "hurt", 4)})
		assert.are.same({{pos = at(3), damage = 2}}, agent.dangers)
	end)
end)
