-- Erasures: one for each subject, and none of them holds up the events behind it.

local fake = dofile("tests/luanti/specs/fake_core.lua")
local Sender, Spool, Notices = fake.load("sender"), fake.spool(), fake.load("notices")
local Batch = fake.load("batch", fake.load("segment"))

local BARRED = '{"error":{"code":"forbidden","message":"this needs a key with the scope erase"}}'

describe("erasures", function()
	local dir, list, spool, http, now, sender, told, notices, may_erase

	local function open()
		spool = Spool.new(fake.spool_options({dir = dir, list = list}))
		spool:load()
	end

	before_each(function()
		dir, list = fake.folder()
		http, told, now, may_erase = fake.http(), {}, 1e6, false
		open()
		notices = Notices.new({
			check_player_privs = function() return true end,
			chat_send_player = function(_, text) told[#told + 1] = text end,
			get_connected_players = function() return {{get_player_name = function() return "admin" end}} end,
		}, fake.translate, {count = 0})
		local options = {
			spool = spool, http = http, url = "http://x", server = "s", api_key = "", flush_interval = 0.5,
			micros = function() return now end, parse = fake.parse_json, random = math.random, S = fake.translate,
			quote = function(text) return '"' .. text .. '"' end,
			on_ack = function() notices:withdraw("sending") end,
			Answer = fake.load("answer"), Batch = Batch,
		}
		for _, name in ipairs({"log", "lose", "on_accepted"}) do
			options[name] = function() end
		end
		for _, name in ipairs({"warn", "withdraw"}) do
			options[name] = function(...)
				notices[name](notices, ...)
			end
		end
		sender = Sender.new(options)
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	local function put(n)
		spool:put(('{"id":"b0:%d","n":%d,"type":"chat"}'):format(n, n), now)
	end

	-- The bodies that the service accepts within this time, numbers for events.
	local function accepted(seconds)
		local bodies = {}
		for _ = 1, seconds * 2 do
			now = now + 0.5e6
			sender:step(now)
			local request = http.requests[http.next_open]
			if request and request.url:find("erasures", 1, true) then
				bodies[#bodies + 1] = may_erase and request.data or nil
				http.answer(may_erase and 202 or 403, may_erase and '{"erasure_id":"e"}' or BARRED)
			elseif request then
				local count = 0
				for n in request.data:gmatch('"n":(%d+)') do
					count, bodies[#bodies + 1] = count + 1, tonumber(n)
				end
				http.answer(202, ('{"accepted":%d}'):format(count))
			end
			spool:tend(now)
		end
		return bodies
	end

	local function waiting()
		local found = {}
		for segment in spool.queue:each() do
			found[#found + 1] = segment.subject or segment.count
		end
		return found
	end

	it("let later events pass if the key may not erase, and are made once it may", function()
		put(1)
		spool:put_erasure('{"player":"bob"}')
		spool:put_erasure('{"player":"ann"}')
		put(2)
		assert.are.same({1, 2}, accepted(60))
		assert.are.equal(3 + 1, #http.requests)
		assert.are.equal(1, #told)
		assert.is_truthy(told[1]:find("this needs a key with the scope erase", 1, true))
		notices:greet({get_player_name = function() return "late" end})
		assert.are.equal(2, #told)
		accepted(1200)
		assert.is_true(#http.requests <= 6, "tried too often")
		may_erase = true
		assert.are.same({'{"player":"bob"}', '{"player":"ann"}'}, accepted(700))
		notices:greet({get_player_name = function() return "later" end})
		assert.are.equal(2, #told)
		accepted(3)
		assert.are.same({}, spool.erasures.newest)
		open()
		assert.are.same({}, waiting())
	end)

	it("that are held have their place again after a restart", function()
		put(1)
		spool:put_erasure('{"player":"bob"}')
		accepted(10)
		put(2)
		open()
		assert.are.same({'{"player":"bob"}', 1}, waiting())
	end)

	it("of one subject are one, behind all events that it has to erase", function()
		spool:put_erasure('{"player":"bob"}')
		spool:put_erasure('{"player":"bob"}')
		put(1)
		spool:put_erasure('{"player":"ann"}')
		assert.are.same({'{"player":"bob"}', 1, '{"player":"ann"}'}, waiting())
		spool:put_erasure('{"player":"bob"}')
		assert.are.same({1, '{"player":"ann"}', '{"player":"bob"}'}, waiting())
		spool:tend(now)
		open()
		assert.are.same({1, '{"player":"ann"}', '{"player":"bob"}'}, waiting())
	end)

	it("of one subject are one, also while the key may not erase", function()
		for n = 1, 20 do
			put(n)
			spool:put_erasure('{"player":"bob"}')
			accepted(5)
		end
		assert.are.equal(1, #spool.erasures.held)
		open()
		assert.are.same({'{"player":"bob"}'}, waiting())
	end)

	it("that were added while an equal one was being sent follow it", function()
		may_erase = true
		spool:put_erasure('{"player":"bob"}')
		now = now + 1e6
		sender:step(now)
		put(1)
		spool:put_erasure('{"player":"bob"}')
		assert.are.same({'{"player":"bob"}', 1, '{"player":"bob"}'}, accepted(10))
	end)
end)
