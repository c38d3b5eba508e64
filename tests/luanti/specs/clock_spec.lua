local fake = dofile("tests/luanti/specs/fake_core.lua")
local Clock = fake.load("clock")

describe("clock", function()
	it("is exact to one step after the first change of the second", function()
		local now = fake.time(1760000000.8)
		local clock = Clock.new(now.wall, now.micros)
		for _ = 1, 20 do
			now.pass(0.09)
			clock:now_ms()
		end
		assert.is_true(math.abs(clock:now_ms() - now.us / 1000) <= 91)
	end)

	it("returns increasing timestamps of whole milliseconds within one step", function()
		local now = fake.time(1760000000.2)
		local clock = Clock.new(now.wall, now.micros)
		local last = 0
		for _ = 1, 200 do
			local stamp = clock:stamp()
			assert.is_true(stamp > last)
			assert.are.equal(0, math.floor(stamp * 1000 + 0.5) % 1)
			last = stamp
		end
		assert.is_true(last < 1760000000.2 + 0.3)
	end)

	it("stays close to the clock under load", function()
		local now = fake.time(1760000000)
		local clock = Clock.new(now.wall, now.micros)
		local last
		for _ = 1, 5000 do
			last = clock:stamp()
		end
		assert.is_true(last <= 1760000001.1)
	end)

	it("follows a wall clock that is set back or forward", function()
		local now = fake.time(1760000000)
		local shift = 0
		local clock = Clock.new(function() return now.wall() + shift end, now.micros)
		clock:stamp()
		shift = -3600
		now.pass(1)
		assert.is_true(math.abs(clock:stamp() - 1759996401) <= 1)
		shift = 3600
		assert.is_true(math.abs(clock:stamp() - 1760003601) <= 1)
	end)
end)
