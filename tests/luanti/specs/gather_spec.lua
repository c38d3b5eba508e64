local FOLDER = "producers/luanti/examples/lorestream_agents/"
local weight = dofile(FOLDER .. "weight.lua")
local places = assert(loadfile(FOLDER .. "places.lua"))(weight)
local gather = dofile(FOLDER .. "gather.lua")({
	places = places,
	wander = assert(loadfile(FOLDER .. "wander.lua"))(weight),
	caution = dofile(FOLDER .. "caution.lua")(places),
})

local function at(x, z)
	return {x = x, y = 0, z = z or 0}
end

describe("one decision of a gatherer", function()
	local agent, job, remembered, walks, answers, ways

	before_each(function()
		remembered, walks, answers, ways = {}, {}, {}, {}
		agent = {def = {sight = 12, speed = 4}, place = at(0), home = at(0), seen = {}, time = 1000, random = function()
			return 0.5
		end}
		function agent.pos(self)
			return self.place
		end
		function agent.now(self)
			return self.time
		end
		function agent.look(self)
			return self.seen
		end
		function agent.say() end
		function agent.stand(x, y, z)
			return {x = x, y = y, z = z}
		end
		function agent.ask(_, ...)
			local lists = {}
			for i, question in ipairs({...}) do
				lists[i] = answers[question.filters.kind] or {}
			end
			return unpack(lists)
		end
		function agent.remember(_, text, metadata)
			remembered[#remembered + 1] = {text, metadata.outcome, metadata.pos.x}
		end
		function agent.walk_to(self, pos, _, _, notice)
			walks[#walks + 1] = pos
			for _ = 1, notice and 3 or 0 do
				notice()
			end
			local why = ways[pos.x]
			if why then
				return false, why
			end
			self.place = pos
			return true
		end
		job = {kind = "trees", nodes = {"tree"}, one = "a tree", many = "trees", reach = 2, work_s = 1, patch = 10,
			regrow_s = 600, least_rate = 0.1, work = function()
				return 3
			end}
	end)

	it("takes the nearest in sight, and remembers the visit when nothing is left", function()
		agent.seen = {at(4), at(6)}
		gather(agent, job)
		agent.seen = {at(6)}
		gather(agent, job)
		assert.are.same({}, remembered)
		agent.seen = {}
		gather(agent, job)
		assert.are.same({"I found trees here and took 6, 0 are left", "found", 4}, remembered[1])
	end)

	it("remembers what he cannot get to, and does not try it again", function()
		agent.seen, ways[4] = {at(4), at(7)}, "unreachable"
		gather(agent, job)
		gather(agent, job)
		assert.are.same({4, 7}, {walks[1].x, walks[2].x})
		assert.are.same({{"I could not get to a tree here", "unreachable", 4}}, remembered)
	end)

	it("goes to the remembered place, and remembers when nothing is there", function()
		answers.trees = {{timestamp = 0, pos = at(40), metadata = {outcome = "found", amount = 9, left = 0}}}
		gather(agent, job)
		assert.are.same(at(40), agent.place)
		gather(agent, job)
		assert.are.same({"I came for trees, but found nothing here", "nothing", 40}, remembered[2])
	end)

	it("looks around where no remembered place is worth the way, and remembers that", function()
		answers.trees = {{timestamp = 990, pos = at(40), metadata = {outcome = "found", amount = 9, left = 0}}}
		gather(agent, job)
		assert.is_true(places.distance(agent.place, at(0)) < 20)
		assert.are.equal("I looked around here and saw no trees", remembered[1][1])
	end)

	it("stops and remembers what is left when he can carry no more", function()
		local room = 3
		function job.room()
			return room
		end
		agent.seen = {at(4), at(5)}
		gather(agent, job)
		room = 0
		gather(agent, job)
		assert.are.same({{"I found trees here and took 3, 2 are left", "found", 4}}, remembered)
		assert.is_nil(agent.visit)
		assert.are.equal(1, #walks)
	end)
end)
