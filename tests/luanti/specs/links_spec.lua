local fake = dofile("tests/luanti/specs/fake_core.lua")

-- The API over a recorder that keeps the events; calls that are not under test are missing.
local function api()
	local written = {}
	local recorder = {
		profile = {add = function() end},
		valid_importance = fake.load("importance").valid,
		write = function(_, event)
			written[#written + 1] = event
			return "b:1"
		end,
		refuse = function(_, _, why)
			return nil, why
		end,
	}
	local core = fake.core()
	core.get_us_time = function()
		return 0
	end
	local made = fake.load("api")({core = core, encode = fake.load("encode"), recorder = recorder, questions = {}})
	return made, written
end

describe("whom an event is about, and what it rests on", function()
	it("is moved from the data to the event itself", function()
		local lorestream, written = api()
		lorestream.put("npc:a", "x", {about = {"Ann", "npc:b"}, sources = {"s"}, supersedes = "old", n = 1})
		lorestream.emit("talk", "npc:a", {about = {"Ann"}})
		assert.are.same({"Ann", "npc:b"}, written[1].about)
		assert.are.same({"s"}, written[1].sources)
		assert.are.equal("old", written[1].supersedes)
		assert.are.same({n = 1}, written[1].metadata)
		assert.are.same({"Ann"}, written[2].about)
		assert.is_nil(written[2].data)
	end)

	it("stays data where it is something else", function()
		local lorestream, written = api()
		local long = {}
		for n = 1, 65 do
			long[n] = "npc:" .. n
		end
		for n, about in ipairs({"trees", {}, {1}, {""}, {"a", x = "b"}, long}) do
			lorestream.put("npc:a", "x", {about = about, supersedes = 5, n = n})
			assert.is_nil(written[n].about)
			assert.is_nil(written[n].supersedes)
			assert.are.equal(n, written[n].metadata.n)
		end
	end)
end)
