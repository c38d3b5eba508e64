local fake = dofile("tests/luanti/specs/fake_core.lua")
local Sender, Spool = fake.load("sender"), fake.spool()

-- The answers used in the specs, as parse_json returns them.
local ANSWERS = {
	['{"accepted":1}'] = {accepted = 1},
	['{"pause":1}'] = {accepted = 1, retry_after_ms = 5000},
	['{"rejected":1}'] = {accepted = 1, rejected = {{index = 1, code = "invalid_event", message = "no"}}},
	['{"busy":1}'] = {error = {code = "overloaded"}, retry_after_ms = 30000},
	['{"error":1}'] = {error = {code = "bad_request", message = "broken"}},
	['{"other":1}'] = {hello = "another service"},
}

describe("sender", function()
	local dir, list, spool, http, now, sender, logged, warned, acks

	before_each(function()
		dir, list = fake.folder()
		http, logged, warned, acks, now = fake.http(), {}, {}, 0, 1e6
		local function log(level, text)
			logged[#logged + 1] = level .. ": " .. text
		end
		spool = Spool.new({dir = dir, boot = "b0", started = 1, limit = 1000, list = list, log = log})
		sender = Sender.new({
			spool = spool, http = http, url = "http://x", server = "s", api_key = "k.s", flush_interval = 0.5,
			micros = function() return now end,
			parse = function(text) return ANSWERS[text] end,
			quote = function(text) return '"' .. text .. '"' end,
			random = function() return 1 end,
			log = log,
			warn = function(text) warned[#warned + 1] = text end,
			on_ack = function() acks = acks + 1 end,
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
		assert.are.equal('{"server":"s","events":[{"type":"a"},{"type":"b"}]}', request.data)
		assert.are.same({"Content-Type: application/json", "Authorization: Bearer k.s"}, request.extra_headers)
		assert.are.equal(0, request.timeout % 1)
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
		http.answer(202, '{"accepted":1}')
		pass(0)
		pass(0)
		assert.are.equal(2, #http.requests)
		assert.are.equal(1, acks)
	end)

	it("drops rejected events and logs each code once", function()
		round(202, '{"rejected":1}')
		spool:put('{"type":"c"}', now)
		round(202, '{"rejected":1}')
		assert.are.equal(2, sender.rejected)
		assert.are.equal(0, spool.count)
		local said = 0
		for _, text in ipairs(logged) do
			said = said + (text:find("invalid_event") and 1 or 0)
		end
		assert.are.equal(1, said)
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
		round(202, '{"accepted":1}')
		assert.are.equal(0, spool.count)
	end)

	it("waits for the retry_after_ms of an answer", function()
		round(429, '{"busy":1}')
		assert.are.equal(30, (sender.next_us - now) / 1e6)
		assert.are.equal(2, spool.count)
		now = sender.next_us
		round(202, '{"pause":1}')
		assert.are.equal(5, (sender.next_us - now) / 1e6)
		assert.are.equal(0, spool.count)
	end)

	it("keeps events after a configuration error, and warns the admins once", function()
		local refused = '{"error":1}'
		for _, answer in ipairs({{401, refused}, {403, refused}, {404, refused}, {200, '{"other":1}'}, {405}}) do
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

	it("drops a refused batch", function()
		round(400, '{"error":1}')
		assert.are.equal(0, spool.count)
		assert.are.equal(2, sender.refused)
		assert.is_truthy(logged[#logged]:find("broken"))
	end)

	it("posts an erasure to its own path", function()
		spool:put_erasure('{"agent_id":"a"}')
		round(202, '{"accepted":1}')
		pass(0)
		assert.are.equal("http://x/v1/erasures", http.requests[2].url)
		assert.are.equal('{"agent_id":"a"}', http.requests[2].data)
	end)

	it("gives up a request that never ends", function()
		pass(0.5)
		pass(61)
		assert.are.equal(1, sender.failures)
		assert.are.equal(2, spool.count)
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
			return {completed = true, code = 202, data = '{"accepted":1}'}
		end
		for _ = 1, 400 do
			spool:put('{"type":"c"}', now)
		end
		sender:finish()
		assert.are.equal(0, spool.count)
		assert.are.equal(3, #http.requests)
	end)
end)
