local fake = dofile("tests/luanti/specs/fake_core.lua")
local Sender, Spool = fake.load("sender"), fake.spool()
local Answer, Batch = fake.load("answer"), fake.load("batch", fake.load("segment"))

local ACCEPTED = '{"accepted":2}'
local REFUSED = '{"error":{"code":"bad_request","message":"broken"}}'

describe("sender", function()
	local dir, list, spool, http, now, sender, logged, warned, lost, acks, discarded

	before_each(function()
		dir, list = fake.folder()
		http, logged, warned, lost, acks, now, discarded = fake.http(), {}, {}, {}, 0, 1e6, {}
		local function log(level, text)
			logged[#logged + 1] = level .. ": " .. text
		end
		spool = Spool.new(fake.spool_options({dir = dir, list = list, log = log}))
		sender = Sender.new({
			spool = spool, http = http, url = "http://x", server = "s", api_key = "k.s", flush_interval = 0.5,
			micros = function() return now end,
			parse = fake.parse_json,
			quote = function(text) return '"' .. text .. '"' end,
			random = function() return 1 end,
			log = log,
			S = fake.translate,
			warn = function(_, text) warned[#warned + 1] = text end,
			withdraw = function() end,
			discard = function(handle) discarded[#discarded + 1] = handle end,
			lose = function(why, lines)
				for _, line in ipairs(lines) do
					lost[#lost + 1] = why .. ": " .. line
				end
			end,
			on_accepted = function() end,
			on_ack = function() acks = acks + 1 end,
			Answer = Answer,
			Batch = Batch,
		})
		spool:put('{"type":"a"}', now)
		spool:put('{"type":"b"}', now)
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	local function pass(seconds)
		now = now + seconds * 1e6
		sender:step(now)
	end

	-- Sends a due batch and answers it.
	local function round(code, body)
		pass(0.5)
		http.answer(code, body)
		pass(0)
	end

	it("posts one batch after the flush interval, with the key", function()
		pass(0.4)
		assert.are.equal(0, #http.requests)
		pass(0.1)
		local request = http.requests[1]
		assert.are.equal("POST", request.method)
		assert.are.equal("http://x/v1/events", request.url)
		assert.are.equal('{"server":"s","events":[{"type":"a"},\n{"type":"b"}]}', request.data)
		assert.are.same({"Content-Type: application/json", "Authorization: Bearer k.s"}, request.extra_headers)
		assert.are.equal(0, request.timeout % 1)
		assert.is_true(request.quiet)
	end)

	it("does not parse the ids of an answer", function()
		local read
		sender.parse = function(text)
			read = text
			return {accepted = 2}
		end
		round(202, '{"accepted":2,"rejected":[{"message":"\\"ids\\":["}],"ids": ["a-1",null,"a-2"],"token":"t"}')
		assert.are.equal('{"accepted":2,"rejected":[{"message":"\\"ids\\":["}],"ids": [],"token":"t"}', read)
		assert.are.equal(0, spool.count)
	end)

	it("has one request in flight", function()
		pass(0.5)
		spool:put('{"type":"c"}', now)
		pass(10)
		assert.are.equal(1, #http.requests)
		http.answer(202, ACCEPTED)
		pass(0)
		pass(0)
		assert.are.equal(2, #http.requests)
		assert.are.equal(1, acks)
	end)

	it("gives up rejected events, and names them", function()
		round(202, '{"accepted":1,"rejected":[{"index":1,"code":"invalid_event","message":"no"}]}')
		assert.are.equal(1, sender.rejected)
		assert.are.equal(1, sender.sent)
		assert.are.equal(0, spool.count)
		assert.are.same({'rejected by the gateway (invalid_event: no): {"type":"b"}'}, lost)
	end)

	it("gives up the rejected events of one code together", function()
		spool:put('{"type":"c"}', now)
		local reject = '{"index":%d,"code":"%s","message":"no %d"}'
		local rejects = {reject:format(2, "x", 1), reject:format(1, "y", 2), reject:format(0, "x", 3)}
		round(202, '{"accepted":0,"rejected":[' .. table.concat(rejects, ",") .. "]}")
		assert.are.same({
			'rejected by the gateway (x: no 3): {"type":"a"}', 'rejected by the gateway (x: no 3): {"type":"c"}',
			'rejected by the gateway (y: no 2): {"type":"b"}',
		}, lost)
	end)

	it("keeps a batch whose answer does not account for each event", function()
		for _, body in ipairs({
			'{"accepted":1,"rejected":[5]}', '{"accepted":1}', '{"accepted":3}', '{"accepted":"2"}', '{"accepted":null}',
			'{"accepted":1,"rejected":[{"index":2,"code":"x"}]}', '{"accepted":1,"rejected":[{"index":0.5,"code":"x"}]}',
			'{"accepted":0,"rejected":[{"index":0,"code":"x"},{"index":0,"code":"x"}]}', '{"accepted":2,"rejected":"none"}',
			'{"accepted":-1}', '{"accepted":1e999}', '{"accepted":1,"rejected":{"a":1}}', '[2]', '{"accepted":2',
			'{"accepted":2,"deep":' .. ("["):rep(1001) .. ("]"):rep(1001) .. "}",
			'{"accepted":2,"long":"' .. ("x"):rep(Answer.MAX_BYTES) .. '"}',
		}) do
			now = math.max(now, sender.next_us)
			round(202, body)
			assert.are.equal(2, spool.count, body:sub(1, 80))
			assert.is_true(sender.next_us > now)
		end
		now = sender.next_us
		round(202, ACCEPTED)
		assert.are.equal(0, spool.count)
		assert.are.same({}, lost)
	end)

	it("does not parse an answer that is too long", function()
		sender.parse = function()
			error("parsed")
		end
		round(202, '{"accepted":2,"long":"' .. ("x"):rep(Answer.MAX_BYTES) .. '"}')
		assert.are.equal(2, spool.count)
		assert.is_truthy(sender.last_error:find("262144", 1, true))
	end)

	it("pauses after an error of its own, and raises it again", function()
		sender.on_ack = function()
			error("mine")
		end
		pass(0.5)
		http.answer(202, ACCEPTED)
		assert.has_error(function() pass(0) end)
		assert.is_true(sender.next_us > now)
	end)

	it("keeps events and backs off up to a minute", function()
		local delays = {}
		for _ = 1, 10 do
			pass(0.5)
			http.answer(0)
			pass(0)
			delays[#delays + 1] = (sender.next_us - now) / 1e6
			now = sender.next_us
		end
		assert.are.same({0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60}, delays)
		assert.are.equal(2, spool.count)
		assert.is_true(#logged <= 2)
		round(202, ACCEPTED)
		assert.are.equal(0, spool.count)
	end)

	it("waits for the retry_after_ms of an answer", function()
		round(429, '{"error":{"code":"overloaded"},"retry_after_ms":30000}')
		assert.are.equal(30, (sender.next_us - now) / 1e6)
		assert.are.equal(2, spool.count)
		now = sender.next_us
		round(202, '{"accepted":2,"retry_after_ms":5000}')
		assert.are.equal(5, (sender.next_us - now) / 1e6)
		assert.are.equal(0, spool.count)
	end)

	it("keeps events after a configuration error, and warns the admins once", function()
		for _, answer in ipairs({{401, REFUSED}, {403, REFUSED}, {404, REFUSED}, {200, '{"hello":1}'}, {400}, {405}}) do
			round(answer[1], answer[2])
			now = now + 100e6
			assert.are.equal(2, spool.count)
		end
		assert.is_truthy(warned[1]:find("lorestream.api_key", 1, true))
		assert.is_truthy(warned[#warned]:find("lorestream.url", 1, true))
		local before = #warned
		round(405)
		now = now + 100e6
		assert.are.equal(before, #warned)
	end)

	describe("when the gateway refuses a batch whole", function()
		-- A gateway that refuses every body in which one of these words is.
		local function refuse(words, status, steps)
			local sent = {}
			for _ = 1, steps or 200 do
				pass(0.5)
				local request = http.requests[http.next_open]
				if request then
					local bad = false
					for _, word in ipairs(words) do
						bad = bad or request.data:find(word, 1, true) ~= nil
					end
					local count = select(2, request.data:gsub('"type"', ""))
					if not bad then
						for name in request.data:gmatch('"type":"(%w+)"') do
							sent[#sent + 1] = name
						end
					end
					http.answer(bad and status or 202, bad and REFUSED or ('{"accepted":%d}'):format(count))
				end
				spool:tend(now)
				now = math.max(now, sender.next_us)
			end
			return sent
		end

		it("gives up only the events that are refused alone", function()
			for _, status in ipairs({400, 413, 422}) do
				lost, sender.refused, sender.sent = {}, 0, 0
				for n = 1, 50 do
					spool:put(('{"type":"c%d"}'):format(n), now)
				end
				local sent = refuse({'"c1"', '"c30"', '"c50"'}, status)
				assert.are.equal("c49", sent[#sent])
				assert.are.equal(3, #lost)
				assert.are.equal(3, sender.refused)
				assert.are.equal(#sent, sender.sent)
				assert.is_truthy(lost[1]:find('broken%): {"type":"c1"}$'))
				assert.are.equal(0, spool.count)
			end
		end)

		it("keeps everything where an empty batch is refused too", function()
			refuse({'"server"'}, 400, 20)
			assert.are.equal(2, spool.count)
			assert.are.same({}, lost)
			assert.is_truthy(warned[#warned]:find("broken", 1, true))
			assert.are.same({"a", "b"}, refuse({}, 400, 20))
			assert.are.equal(0, spool.count)
		end)

		it("sends what is left of a split batch after an outage", function()
			refuse({'"b"'}, 400, 2)
			pass(0.5)
			http.answer(0)
			pass(0)
			now = sender.next_us
			assert.are.same({"a"}, refuse({'"b"'}, 400))
			assert.are.equal(1, #lost)
		end)

		it("gives up an erasure that is refused", function()
			spool:put_erasure('{"agent_id":5,"type":"e"}')
			spool:put('{"type":"c"}', now)
			assert.are.same({"a", "b", "c"}, refuse({'"agent_id"'}, 400))
			assert.are.equal(1, #lost)
		end)
	end)

	it("posts an erasure to its own path", function()
		spool:put_erasure('{"agent_id":"a"}')
		round(202, ACCEPTED)
		pass(0)
		assert.are.equal("http://x/v1/erasures", http.requests[2].url)
		assert.are.equal('{"agent_id":"a"}', http.requests[2].data)
	end)

	it("gives up a request that never ends", function()
		pass(0.5)
		pass(61)
		assert.are.equal(1, sender.failures)
		assert.are.equal(2, spool.count)
		assert.are.same({1}, discarded)
		sender:greet()
		assert.are.same({1, 2}, discarded)
	end)

	it("waits at most a second at shutdown", function()
		sender.micros = function()
			now = now + 1000
			return now
		end
		local began = now
		sender:finish()
		assert.are.equal(1, #http.requests)
		assert.is_true(now - began <= 1.1e6)
		assert.are.equal(2, spool.count)
	end)

	it("sends all remaining events at shutdown if the gateway answers", function()
		http.fetch_async_get = function()
			local _, count = http.requests[#http.requests].data:gsub('"type"', "")
			return {completed = true, code = 202, data = ('{"accepted":%d}'):format(count)}
		end
		for _ = 1, 400 do
			spool:put('{"type":"c"}', now)
		end
		sender:finish()
		assert.are.equal(0, spool.count)
		assert.are.equal(3, #http.requests)
	end)
end)
