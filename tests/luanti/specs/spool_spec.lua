local fake = dofile("tests/luanti/specs/fake_core.lua")
local Spool = fake.spool()

describe("spool", function()
	local dir, list, logged, dropped, aside

	local function open(limit, boot)
		local spool = Spool.new(fake.spool_options({
			dir = dir, boot = boot or "b0", started = 1760000000, limit = limit or 100000, list = list,
			log = function(level, text)
				logged[#logged + 1] = level .. ": " .. text
			end,
			on_dropped = function(losses)
				dropped[#dropped + 1] = losses
			end,
			set_aside = function(lines)
				for _, text in ipairs(lines) do
					aside[#aside + 1] = text
				end
			end,
			check = function(text)
				return not text:find("broken", 1, true)
			end,
		}))
		return spool, spool:load()
	end

	local function line(n, kind)
		return ('{"id":"b0:%d","n":%d,"type":"%s"}'):format(n, n, kind or "trade")
	end

	local function fill(spool, first, last, kind)
		for n = first, last do
			spool:put(line(n, kind), 0)
		end
	end

	-- All events that a spool would still send, in order.
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

	-- The numbers of all dropped events, each once; their lines are then gone.
	local function dropped_numbers(spool)
		for _ = 1, 50 do
			spool:tend(0)
		end
		local numbers, count = {}, 0
		for _, drop in ipairs(dropped) do
			local before = #numbers
			drop.ids:each(function(id)
				numbers[#numbers + 1] = tonumber(id:match(":(%d+)"))
			end)
			assert.are.equal(drop.count, #numbers - before)
			count = count + drop.count
		end
		assert.are.equal(count + spool.dropped_left, spool.dropped_total)
		table.sort(numbers)
		return numbers
	end

	before_each(function()
		dir, list = fake.folder()
		logged, dropped, aside = {}, {}, {}
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	it("returns events in order, in batches of the right size", function()
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
		-- Without close(): the process was killed.
		local second, count = open(nil, "b1")
		assert.are.equal(101, count)
		fill(second, 301, 310)
		assert.are.same(range(200, 310), drain(open(nil, "b2")))
	end)

	it("does not send acknowledged events of a reused file again", function()
		local spool = open()
		for round = 0, 9 do
			fill(spool, round * 10 + 1, round * 10 + 10)
			spool:done(spool:take())
		end
		fill(spool, 101, 105)
		assert.are.equal(2, #list())
		assert.are.same(range(101, 105), drain(open(nil, "b1")))
	end)

	it("marks acknowledged events at once", function()
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

	it("leaves no file after closing empty, and no line when idle", function()
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

	it("skips a line that was cut off", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(1), "\n", line(2), "\n", '{"n":3,"ty')
		file:close()
		local spool = open()
		assert.are.same({1, 2}, drain(spool))
		assert.are.equal(1, #logged)
	end)

	it("sets a broken line aside, without a loss of its neighbours", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write("#1\n", line(1), ",\n", '{"n":2,"broken"},\n', line(3), ",\n", "no object,\n", "{\0},\n", line(4), ",\n")
		file:close()
		assert.are.same({1, 3, 4}, drain(open()))
		assert.are.same({'{"n":2,"broken"}', "no object", "{\0}"}, aside)
		aside = {}
		open(nil, "b1")
		assert.are.same({}, aside)
	end)

	it("does not append to an incomplete line", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(1), ",\n", '{"n":3,"data":{"a":1}')
		file:close()
		local spool = open()
		spool:put_first(line(0), 0)
		assert.are.same({1, 0}, drain(open(nil, "b1")))
	end)

	it("reads lines without a final comma", function()
		local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
		file:write(line(9), "\n#7\n", line(1), "\n", line(2), "\n", line(3), "\n")
		file:close()
		assert.are.equal(table.concat({line(1), line(2), line(3)}, ",\n"), open():take().body)
	end)

	describe("when dropped lines cannot be removed from the file", function()
		local kept = {}
		for n = 1, 199 do
			kept[#kept + 1] = n % 3 ~= 0 and n or nil
		end

		local function fill_three(spool)
			for n = 1, 199 do
				spool:put(line(n, n % 3 == 0 and "dig" or "chat"), 0)
			end
			fill(spool, 200, 400, "chat")
		end

		-- The first segment has all kept events in whole lines, and leaves no file behind.
		local function sends_the_rest(spool)
			assert.is_false(spool:due(0, 0))
			for _ = 1, 20 do
				spool:tend(0)
			end
			assert.is_true(spool:due(0, 0))
			local segment = spool:take()
			assert.is_true(segment.stuck)
			assert.are.equal(#kept, segment.count)
			local lines = {}
			for _, n in ipairs(kept) do
				lines[#lines + 1] = line(n, "chat")
			end
			assert.are.equal(table.concat(lines, ",\n"), segment.body)
			spool:done(segment)
			drain(spool)
			spool:close()
			assert.are.same({}, list())
			assert.are.equal(0, spool.count)
		end

		it("sends the others if they are at an unexpected place", function()
			local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
			file:write("#1\n")
			for n = 1, 199 do
				file:write(line(n, n % 3 == 0 and "dig" or "chat"), "\n") -- no comma
			end
			file:close()
			local spool = open(250)
			fill(spool, 200, 316, "chat")
			assert.are.equal(66, spool.dropped_total)
			sends_the_rest(spool)
		end)

		it("sends the others if the type is not at the end of the line", function()
			local file = io.open(dir .. "/000000000001-aa-00000001.ndjson", "wb")
			file:write("#1\n")
			for n = 1, 199 do
				file:write('{"n":', n, "},\n")
			end
			file:close()
			local spool = open(250)
			fill(spool, 200, 316, "chat")
			for _ = 1, 20 do
				spool:due(0, 0)
				spool:tend(0)
			end
			assert.is_true(spool:due(0, 0))
			assert.are.same(range(67, 316), drain(spool))
		end)

		-- The disk becomes full after the previous line was written.
		it("sends the others if the copy cannot be started", function()
			local spool = open(334)
			fill_three(spool)
			while spool.pool:tend() do end
			for _, free in ipairs(spool.pool.free) do
				free.file:close()
				free.file = io.open("/dev/full", "ab")
			end
			sends_the_rest(spool)
		end)

		it("sends the others if the copy cannot be completed", function()
			local spool = open(334)
			fill_three(spool)
			while not spool.queue.first.copy do
				spool:tend(0)
			end
			local copy = spool.queue.first.copy
			copy.free.file:close()
			copy.free.file = io.open("/dev/full", "ab")
			sends_the_rest(spool)
		end)
	end)

	it("removes dropped lines that have no type, or one that is called text, and no others", function()
		local function without_type(n, ending)
			return ('{"id":"b0:%d","n":%d,"metadata":{"type":"x"},"text":"a \\"type\\":\\"chat\\"}","time":2.5%s}'):format(n, n,
				ending)
		end
		local spool = open(150)
		for n = 1, 150 do
			spool:put(n % 3 == 0 and line(n, "chat") or without_type(n, n % 30 == 1 and ',"type" : "text"' or ""), 0)
		end
		spool:seal()
		fill(spool, 151, 220, "trade")
		for _ = 1, 40 do
			spool:tend(0)
		end
		assert.is_nil(spool.queue.first.stuck)
		local said, found = {}, {}
		for _, losses in ipairs(dropped) do
			for kind, count in pairs(losses.types) do
				said[kind] = (said[kind] or 0) + count
			end
			losses.ids:each(function(id)
				local kind = tonumber(id:match("%d+$")) % 3 == 0 and "chat" or "text"
				found[kind] = (found[kind] or 0) + 1
			end)
		end
		assert.are.same(said, found)
		assert.is_truthy(said.text)
		assert.are.equal(0, spool.dropped_left)
		assert.are.equal(150, #drain(open(1000, "b1")))
	end)

	it("reads the same body from reused files as by joining lines", function()
		local spool = open()
		fill(spool, 1, 20)
		spool:done(spool:take())
		fill(spool, 21, 500)
		local wanted = {}
		for n = 21, 219 do
			wanted[#wanted + 1] = line(n)
		end
		wanted = table.concat(wanted, ",\n")
		assert.are.equal(wanted, spool:take().body) -- still in memory
		assert.are.equal(wanted, open(nil, "b1"):take().body)
	end)

	it("opens two files in advance while others are waiting", function()
		local spool = open()
		fill(spool, 1, 210)
		assert.are.equal(2, #list())
		spool:tend(0)
		assert.are.equal(3, #list())
		spool:tend(0)
		spool:tend(0)
		assert.are.equal(4, #list())
		fill(spool, 211, 590)
		assert.are.equal(4, #list())
		assert.are.same(range(1, 590), drain(spool))
	end)

	describe("in one server step", function()
		local open_file, remove, rename = io.open, os.remove, os.rename
		local done_to_files

		-- luacheck: push ignore 122
		-- Counts files that are created, emptied, deleted or renamed; not existing files that are appended to.
		before_each(function()
			done_to_files = 0
			io.open = function(path, mode)
				local there = open_file(path, "rb")
				if there then
					there:close()
				end
				if mode:find("w") or mode:find("a") and not there then
					done_to_files = done_to_files + 1
				end
				return open_file(path, mode)
			end
			os.remove = function(path)
				done_to_files = done_to_files + 1
				return remove(path)
			end
			os.rename = function(...)
				done_to_files = done_to_files + 1
				return rename(...)
			end
		end)

		after_each(function()
			io.open, os.remove, os.rename = open_file, remove, rename
		end)
		-- luacheck: pop

		local function count(work, ...)
			done_to_files = 0
			local result = work(...)
			return done_to_files, result
		end

		it("changes at most one file, and none while events are added and sent", function()
			local spool = open(1500)
			local tended, sent = 0, 0
			local function step()
				local files = count(spool.tend, spool, 0)
				assert.is_true(files <= 1)
				tended = tended + files
			end
			for n = 1, 3000 do
				assert.are.equal(0, (count(spool.put, spool, line(n, n % 3 == 0 and "chat" or "dig"), 0)))
				if n % 4 == 0 then
					step()
				end
			end
			while spool.queue.first do
				local files, due = count(spool.due, spool, 0, 0)
				assert.are.equal(0, files)
				if due then
					local taken, segment = count(spool.take, spool)
					assert.are.same({0, 0}, {taken, (count(spool.done, spool, segment))})
					sent = sent + segment.count
				else
					step()
				end
			end
			assert.are.equal(1500, sent)
			assert.is_true(tended > 10)
		end)
	end)

	it("keeps the order of thinned segments over a restart", function()
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
		assert.are.equal(400, spool.dropped_total)
		local gone = dropped_numbers(spool)
		assert.are.same(range(501, 900), gone)
		assert.are.equal(1000, #drain(open(1000, "b1")))
	end)

	describe("when full", function()
		-- Chat, sometimes an event of lower value, with increasing numbers.
		local function kind_of(n)
			return n % 7 == 0 and "dig" or n % 5 == 0 and "join" or "chat"
		end

		local LOWEST = {"dig", "join", "chat"}

		-- A model of the spool: each event beyond the limit drops the oldest of the lowest value.
		local function expected(last, limit)
			local excess, gone = last - limit, {}
			for _, kind in ipairs(LOWEST) do
				for n = 1, last do
					if excess > 0 and kind_of(n) == kind then
						gone[n], excess = true, excess - 1
					end
				end
			end
			local kept = {}
			for n = 1, last do
				kept[#kept + 1] = not gone[n] and n or nil
			end
			return kept
		end

		local function put(spool, first, last)
			for n = first, last do
				spool:put(line(n, kind_of(n)), 0)
			end
		end

		local function lines_in_files()
			local pipe = assert(io.popen("cat '" .. dir .. "'/*.ndjson | grep -c '^{'"))
			local count = tonumber(pipe:read("*a"))
			pipe:close()
			return count
		end

		it("never holds more than the limit, and drops the oldest of the lowest value", function()
			local spool = open(1000)
			for n = 1, 2500 do
				put(spool, n, n)
				assert.are.equal(math.min(n, 1000), spool.count)
				if n % 3 == 0 then
					spool:tend(0)
				end
			end
			assert.are.same(expected(2500, 1000), drain(spool))
			assert.are.equal(1500, spool.dropped_total)
			assert.are.same({0, 0}, {spool.count, spool.unsaved})
		end)

		it("has the same events after a kill between any two parts of the work", function()
			for parts = 0, 12 do
				local spool = open(1000)
				put(spool, 1, 1600)
				for _ = 1, parts do
					spool:tend(0)
				end
				local second = open(1000, "b1")
				local sent = drain(second)
				assert.are.same(expected(1600, 1000), sent)
				-- Each other event was given as dropped exactly once, before the kill or after it.
				for _ = 1, 50 do
					second:tend(0)
				end
				for _, drop in ipairs(dropped) do
					drop.ids:each(function(id)
						sent[#sent + 1] = tonumber(id:match(":(%d+)"))
					end)
				end
				table.sort(sent)
				assert.are.same(range(1, 1600), sent)
				dropped = {}
				os.execute("rm -f '" .. dir .. "'/*")
			end
		end)

		it("thins a segment in parts, and is consistent between them", function()
			local function long(n)
				return ('{"n":%d,"text":"%s","type":"%s"}'):format(n, ("x"):rep(200 + n % 90), kind_of(n))
			end
			local spool = open(400)
			for n = 1, 460 do
				spool:put(long(n), 0)
			end
			local parts = 0
			while not spool:due(0, 0) do
				parts = parts + 1
				spool:tend(0)
				spool:put(long(460 + parts), 0)
			end
			assert.is_true(parts > 6)
			local kept = {}
			for n = 1, 199 do
				kept[#kept + 1] = kind_of(n) ~= "dig" and long(n) or nil
			end
			assert.are.equal(table.concat(kept, ",\n"), spool:take().body)
			assert.are.equal(400, spool.count)
			assert.are.equal(400, #drain(open(400, "b1")))
		end)

		it("drops events while a segment is being thinned", function()
			local spool = open(1000)
			put(spool, 1, 1300)
			for n = 1301, 1600 do
				spool:tend(0)
				put(spool, n, n)
			end
			assert.are.same(expected(1600, 1000), drain(spool))
		end)

		it("adds a report to a segment that is being thinned", function()
			for parts = 0, 9 do
				for later = 0, 3, 3 do
					local spool = open(400)
					put(spool, 1, 620)
					for _ = 1, parts do
						spool:tend(0)
					end
					spool:put_first(line(0, "spool_dropped"), 0)
					for _ = 1, later do
						spool:tend(0)
					end
					local found = 0
					for _, n in ipairs(drain(open(10000, "b1"))) do
						found = found + (n == 0 and 1 or 0)
					end
					assert.are.equal(1, found)
					os.execute("rm -f '" .. dir .. "'/*")
				end
			end
		end)

		it("stays small in a long outage", function()
			local spool = open(1000)
			fill(spool, 1, 900, "chat")
			for n = 901, 40000 do
				spool:put(line(n, n % 50 == 0 and "chat" or "dig"), 0)
			end
			assert.is_true(lines_in_files() <= 1000 * 4 / 3 + 18 * 199)
			for segment in spool.queue:each() do
				assert.is_true(segment.count > 0 or segment == spool.open)
			end
			spool:close()
			assert.are.equal(1000, lines_in_files())
		end)

		it("removes dropped events from a body that could not be sent", function()
			local spool = open(300)
			fill(spool, 1, 199, "dig")
			fill(spool, 200, 300, "chat")
			spool:take().taken = nil
			fill(spool, 301, 350, "chat")
			assert.are.equal(51, drain(spool)[1])
		end)
	end)

	it("does not drop events that are being sent", function()
		local spool = open(300)
		fill(spool, 1, 250, "dig")
		local segment = spool:take()
		fill(spool, 251, 3000, "chat")
		assert.are.equal(199, segment.count)
		spool:done(segment)
		assert.is_true(spool.count >= 0)
	end)

	it("keeps the place of an erasure, also over a restart", function()
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

	it("sends nothing after an erasure while that could be sent again", function()
		local function kinds(spool)
			local found = {}
			for segment in spool.queue:each() do
				found[#found + 1] = segment.erase and "erase" or segment.count
			end
			return found
		end
		local spool = open()
		fill(spool, 1, 3)
		spool:put_erasure('{"agent_id":"npc:a"}')
		fill(spool, 4, 6)
		for _ = 1, 2 do
			spool:done(spool:take())
		end
		assert.are.same({"erase", 3}, kinds(open(nil, "b1")))
		assert.is_false(spool:due(0, 0))
		spool:tend(0)
		assert.is_true(spool:due(0, 0))
		assert.are.same({3}, kinds(open(nil, "b2")))
	end)

	it("adds no events to the file of an erasure", function()
		local spool = open()
		fill(spool, 1, 450)
		spool:put_erasure('{"agent_id":"npc:a"}')
		drain(spool)
		fill(spool, 451, 900)
		for _, name in ipairs(list()) do
			assert.is_nil(name:find("erase"))
		end
		assert.are.same(range(451, 900), drain(open(nil, "b1")))
	end)

	it("keeps the place of segments of an earlier run after thinning", function()
		fill(open(1000, "b0"), 1, 500, "dig")
		local spool = open(400, "b1")
		fill(spool, 501, 700, "chat")
		for _ = 1, 40 do
			spool:tend(0)
		end
		assert.are.same(range(301, 700), drain(open(400, "b2")))
	end)

	it("keeps a limited number of events in memory if the folder cannot be written", function()
		local gone = dir .. "/missing"
		local spool = Spool.new(fake.spool_options({dir = gone, limit = 100000, list = function() return {} end}))
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
