local fake = dofile("tests/luanti/specs/fake_core.lua")

describe("a flood of log lines", function()
	local logged, now, limited

	before_each(function()
		logged, now = {}, 0
		limited = fake.load("limited")(function(level, text)
			logged[#logged + 1] = level .. ": " .. text
		end, function() return now end)
	end)

	it("is one line at once, and one a minute with the number of the others", function()
		for n = 1, 1000 do
			limited.say("error", "bad", "event " .. n)
		end
		limited.step(now + 59e6)
		assert.are.same({"error: event 1"}, logged)
		limited.step(now + 61e6)
		assert.are.same({"error: event 1", "error: event 1000 (the last of 999 like it within a minute)"}, logged)
		limited.step(now + 200e6)
		now = 200e6
		limited.say("error", "bad", "later")
		assert.are.equal("error: later", logged[3])
		assert.are.equal(3, #logged)
	end)

	it("is counted at the end", function()
		limited.say("error", "bad", "a")
		limited.say("error", "bad", "b")
		limited.step(math.huge)
		assert.are.equal(2, #logged)
	end)

	it("of many kinds is limited too", function()
		for n = 1, 1000 do
			limited.say("error", "kind " .. n, "text")
		end
		assert.is_true(#logged < 100)
	end)
end)

describe("a setting", function()
	local values, logged, settings

	before_each(function()
		values, logged = {}, {}
		settings = fake.load("settings")({get = function(_, name)
			return values[name:match("^lorestream%.(.+)")]
		end}, function(_, text)
			logged[#logged + 1] = text
		end)
	end)

	it("that is a text is cut to its limit, at a character, with a line in the log", function()
		values.server = ("ä"):rep(128)
		assert.are.equal(values.server, settings.text("server", "x", 128))
		assert.are.equal(0, #logged)
		values.server = ("ä"):rep(129) .. "z"
		assert.are.equal(("ä"):rep(128), settings.text("server", "x", 128))
		assert.is_truthy(logged[1]:find("lorestream.server has 130 characters", 1, true))
		assert.are.equal(("w"):rep(128), settings.text("missing", ("w"):rep(300), 128))
		values.api_key = "  k.s\n"
		assert.are.equal("k.s", settings.text("api_key", ""))
	end)

	it("that is a number stays within its limits", function()
		local cases = {["5"] = 5, ["0"] = 1, ["-3"] = 1, ["1e999"] = 100, ["nan"] = 7, ["x"] = 7, ["0x10"] = 16}
		for text, wanted in pairs(cases) do
			values.n = text
			assert.are.equal(wanted, settings.number("n", 7, 1, 100), text)
		end
		values.n = ""
		assert.are.equal(7, settings.number("n", 7, 1, 100))
	end)

	it("that is a URL has a scheme and a host", function()
		for text, wanted in pairs({
			["http://h:8080/"] = "http://h:8080", ["https://h/x//"] = "https://h/x", ["h:8080"] = "http://h:8080",
			["[::1]:80"] = "http://[::1]:80", ["ftp://h"] = "http://d", ["http://"] = "http://d", ["a b"] = "http://d",
		}) do
			values.url = text
			assert.are.equal(wanted, settings.url("url", "http://d"), text)
		end
	end)
end)

describe("the check of a line", function()
	local check = fake.load("line_check")(fake.parse_json, fake.load("encode").agent_fault)

	it("accepts events and erasures", function()
		assert.is_true(check('{"id":"b:1","agent_id":"npc:a","type":"dig"}', false))
		assert.is_true(check('{"agent_id":"npc:a","text":"t"}', false))
		assert.is_true(check('{"agent_id":"npc:a"}', true))
		assert.is_true(check('{"player":"Anna"}', true))
	end)

	it("refuses what is not one object with what the gateway needs", function()
		for _, line in ipairs({
			'{"agent_id":"a","type":"t"},{"agent_id":"a","type":"t"}', '{"agent_id":"a","type":"t"', '{"agent_id":"a","type":}',
			'{"agent_id":"a","type":"t"}]}', '{"agent_id":"a","type":"t"}],"x":[{}', "{}", '{"agent_id":"a"}', '{"type":"t"}',
			'{"agent_id":5,"type":"t"}', '{"agent_id":"a","type":5}', '{"agent_id":"","type":"t"}',
			'{"agent_id":"player:","type":"t"}', '{"agent_id":"' .. ("x"):rep(257) .. '","type":"t"}', "[1]", "7",
			'{"agent_id":"a","type":"t","data":' .. ("["):rep(1001) .. ("]"):rep(1001) .. "}",
		}) do
			assert.is_false(check(line, false), line:sub(1, 60))
		end
		assert.is_false(check('{"player":""}', true))
		assert.is_false(check('{"text":"t"}', true))
	end)
end)
