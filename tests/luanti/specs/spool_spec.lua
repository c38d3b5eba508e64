local fake = dofile("tests/luanti/specs/fake_core.lua")
local Spool = fake.load("spool", fake.load("segment"))

describe("spool", function()
	local dir, list, logged

	local function open(limit, boot)
		local spool = Spool.new({
			dir = dir, boot = boot or "b0", started = 1760000000, limit = limit or 100000, list = list,
			log = function(level, text)
				logged[#logged + 1] = level .. ": " .. text
			end,
		})
		return spool, spool:load()
	end

	local function line(n, kind)
		return ('{"n":%d,"type":"%s"}'):format(n, kind or "trade")
	end

	local function fill(spool, first, last, kind)
		for n = first, last do
			spool:put(line(n, kind), 0)
		end
	end

	-- Everything that a spool would still send, in order.
	local function drain(spool)
		local numbers = {}
		while true do
			local segment = spool:take()
			if not segment then
				return numbers
			end
			for n in segment.body:gmatch('"n":(%d+)') do
				numbers[#numbers + 1] = tonumber(n)
			end
			spool:done(segment)
		end
	end

	local function range(first, last)
		local numbers = {}
		for n = first, last do
			numbers[#numbers + 1] = n
		end
		return numbers
	end

	before_each(function()
		dir, list = fake.folder()
		logged = {}
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	it("gives back what it took, in order, in batches of the right size", function()
		local spool = open()
		fill(spool, 1, 450)
		assert.are.equal(199, spool:take().count)
		assert.are.same(range(1, 450), drain(spool))
		assert.are.equal(0, spool.count)
	end)

	it("ends a batch before it is too large", function()
		local spool = open()
		for _ = 1, 100 do
			spool:put('{"text":"' .. ("x"):rep(16000) .. '"}', 0)
		end
		local segment = spool:take()
		assert.is_true(#segment.body <= 64 * 1024)
		assert.is_true(segment.count > 2)
	end)

	it("survives a kill at any moment", function()
		local spool = open()
		fill(spool, 1, 250)
		spool:done(spool:take())
		spool:take()
		fill(spool, 251, 300)
		-- No close: the process is gone.
		local second, count = open(nil, "b1")
		assert.are.equal(101, count)
		fill(second, 301, 310)
		assert.are.same(range(200, 310), drain(open(nil, "b2")))
	end)

	it("does not send again what was answered for in a file that is used again", function()
		local spool = open()
		for round = 0, 9 do
			fill(spool, round * 10 + 1, round * 10 + 10)
			spool:done(spool:take())
		end
		fill(spool, 101, 105)
		assert.are.equal(2, #list())
		assert.are.same(range(101, 105), drain(open(nil, "b1")))
	end)

	it("marks what was answered for at once", function()
		local spool = open()
		fill(spool, 1, 10)
		spool:done(spool:take())
		local _, count = open(nil, "b1")
		assert.are.equal(0, count)
	end)

	it("keeps the order of runs that start in one second", function()
		fill(open(nil, "ff"), 1, 5)
		fill(open(nil, "aa"), 6, 10)
		assert.are.same(range(1, 10), drain(open(nil, "00")))
	end)

	it("leaves no file when it is closed empty, and no line when it is idle", function()
		local spool = open()
		fill(spool, 1, 10)
		drain(spool)
		spool:tend(0)
		spool:tend(3e6)
		spool:tend(3e6)
		local pipe = assert(io.popen("cat '" .. dir .. "'/*"))
		assert.are.equal("", pipe:read("*a"))
		pipe:close()
		spool:close()
		assert.are.same({}, list())
	end)

	it("leaves out a line that was cut off", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(1), "\n", line(2), "\n", '{"n":3,"ty')
		file:close()
		local spool = open()
		assert.are.same({1, 2}, drain(spool))
		assert.are.equal(1, #logged)
	end)

	it("continues no broken line", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(1), ",\n", '{"n":3,"data":{"a":1}')
		file:close()
		local spool = open()
		spool:put_first(line(0), 0)
		assert.are.same({1, 0}, drain(open(nil, "b1")))
	end)

	it("reads lines that no comma ends, too", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(9), "\n#7\n", line(1), "\n", line(2), "\n", line(3), "\n")
		file:close()
		assert.are.equal(table.concat({line(1), line(2), line(3)}, ","), open():take().body)
	end)

	it("sends whole lines also when those that were dropped cannot leave the file", function()
		local spool = open(300)
		fill(spool, 1, 199)
		for _, name in ipairs(list()) do
			os.execute("mkdir '" .. dir .. "/" .. name .. ".part'")
		end
		fill(spool, 200, 300)
		fill(spool, 301, 398, "dig")
		fill(spool, 399, 500)
		spool:done(spool:take())
		local second = spool:take()
		assert.is_true(second.count < 199)
		for item in second.body:gmatch("[^\n]+") do
			assert.truthy(item:find('^{"n":.*},?$'))
		end
		os.execute("rmdir '" .. dir .. "'/*.part")
	end)

	it("reads a backlog from files that are used again as it would join its lines", function()
		local spool = open()
		fill(spool, 1, 20)
		spool:done(spool:take())
		fill(spool, 21, 500)
		local wanted = {}
		for n = 21, 219 do
			wanted[#wanted + 1] = line(n)
		end
		wanted = table.concat(wanted, ",\n")
		assert.are.equal((wanted:gsub("\n", "")), spool:take().body) -- still in memory
		assert.are.equal(wanted, open(nil, "b1"):take().body)
	end)

	it("opens a file ahead while others wait", function()
		local spool = open()
		fill(spool, 1, 210)
		assert.are.equal(2, #list())
		spool:tend(0)
		assert.are.equal(3, #list())
		spool:tend(0)
		assert.are.equal(3, #list())
		fill(spool, 211, 410)
		assert.are.equal(3, #list())
		assert.are.same(range(1, 410), drain(spool))
	end)

	it("keeps the order of what was thinned over a restart", function()
		local spool = open(500)
		fill(spool, 1, 210)
		spool:done(spool:take())
		fill(spool, 211, 398)
		fill(spool, 399, 597, "dig") -- in the file of the first
		fill(spool, 598, 800)
		local kept = drain(open(500, "b1"))
		assert.is_true(#kept < 600)
		local sorted = {unpack(kept)}
		table.sort(sorted)
		assert.are.same(sorted, kept)
	end)

	it("drops the lowest value first, and counts", function()
		local spool = open(1000)
		fill(spool, 1, 500, "chat")
		fill(spool, 501, 1000, "dig")
		fill(spool, 1001, 1400, "trade")
		assert.is_true(spool.count <= 1200)
		for _ = 1, 5 do
			spool:tend(0)
		end
		assert.are.equal(1000, spool.count)
		local drops = spool:take_drops()
		assert.is_nil(drops.types.chat)
		assert.is_nil(drops.types.trade)
		assert.are.equal(drops.count, drops.types.dig)
		assert.is_nil(spool:take_drops())
		assert.are.equal(400, drops.count)
		assert.are.equal(1000, #drain(open(1000, "b1")))
	end)

	it("does not drop what is being sent", function()
		local spool = open(300)
		fill(spool, 1, 250, "dig")
		local segment = spool:take()
		fill(spool, 251, 3000, "chat")
		assert.are.equal(199, segment.count)
		spool:done(segment)
		assert.is_true(spool.count >= 0)
	end)

	it("keeps an erasure in its place, also over a restart", function()
		local spool = open()
		fill(spool, 1, 3)
		spool:put_erasure('{"agent_id":"npc:a"}')
		fill(spool, 4, 6)
		local second = open(nil, "b1")
		local kinds = {}
		for _ = 1, 3 do
			local segment = second:take()
			kinds[#kinds + 1] = segment.erase and segment.body or segment.count
			second:done(segment)
		end
		assert.are.same({3, '{"agent_id":"npc:a"}', 3}, kinds)
	end)

	it("keeps events in memory, bounded, when the folder cannot be written", function()
		local gone = dir .. "/missing"
		local spool = Spool.new({dir = gone, boot = "b0", started = 1, limit = 100000, list = function() return {} end,
			log = function() end})
		fill(spool, 1, 300, "chat")
		fill(spool, 301, 20000, "dig")
		assert.is_true(spool.unsaved <= 5000 + 199)
		local numbers = drain(spool)
		for n = 1, 300 do
			assert.are.equal(n, numbers[n])
		end
		assert.are.equal(0, spool.unsaved)
	end)

	it("puts a report ahead of the backlog", function()
		local spool = open()
		fill(spool, 1, 400)
		spool:done(spool:take())
		spool:put_first(line(0), 0)
		local numbers = drain(spool)
		assert.are.equal(0, numbers[200])
		assert.are.equal(202, #numbers)
	end)

	it("is due when full or old", function()
		local spool = open()
		assert.is_false(spool:due(0, 1))
		spool:put(line(1), 1000)
		assert.is_false(spool:due(1400, 500))
		assert.is_true(spool:due(1500, 500))
		fill(spool, 2, 250)
		assert.is_true(spool:due(0, 1e9))
	end)
end)
