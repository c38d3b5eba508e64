local fake = dofile("tests/luanti/specs/fake_core.lua")
local encode = fake.load("encode")
local core = fake.core()

local function event(fields)
	local made = {id = "b:1", agent_id = "npc:a", type = "dig", time = 1}
	for key, value in pairs(fields) do
		made[key] = value
	end
	return made
end

describe("encode.event", function()
	it("writes one line that ends with the type", function()
		local line = encode.event(core, event({data = {node = "default:tree"}, ttl = 0, text = "a\nb"}))
		assert.is_nil(line:find("\n"))
		assert.are.equal('"type":"dig"}', line:sub(-13))
	end)

	it("refuses events that the gateway would reject", function()
		local many = {}
		for n = 1, 2000 do
			many["key" .. n] = "value"
		end
		for _, wrong in ipairs({
			{agent_id = ""}, {agent_id = 5}, {agent_id = ("x"):rep(257)},
			{type = "lorestream.x"}, {type = ""}, {type = ("x"):rep(65)}, {type = 7},
			{data = many}, {agent_id = "player:"}, {agent_id = "a:player: "}, {agent_id = "npc:a\0b"}, {type = "a\nb"},
			{player = ("x"):rep(257)}, {player = 5}, {player = "a\27"}, {agent_id = "npc:\27(T@castle)Guard\27E"},
		}) do
			local line, why = encode.event(core, event(wrong))
			assert.is_nil(line)
			assert.is_string(why)
		end
		assert.is_nil(encode.event(core, {id = "b:1", agent_id = "npc:a", text = ""}))
	end)

	it("cuts the longest text of an event that is too long, at a character, and marks it", function()
		local long = ("ä€😀"):rep(2000)
		for _, fields in ipairs({
			{text = long}, {text = ("y"):rep(60000)}, {data = {message = long}}, {metadata = {a = {b = long}}},
			{data = {a = long, b = long}}, {text = ('"\\\n'):rep(9000)}, {text = ("\191"):rep(30000)},
		}) do
			local line = assert(encode.event(core, event(fields)))
			assert.is_true(#line <= encode.MAX_BYTES and #line > encode.MAX_BYTES - 400)
			local read = core.parse_json(line)
			assert.is_true(read.metadata.truncated)
			assert.are.equal("b:1", read.id)
			local kept = read.text or read.data and read.data.message
			if kept and fields.text == long then
				assert.are.equal(long:sub(1, #kept), kept)
				assert.is_truthy(kept:find("^[ä€😀]*$"))
				assert.is_true(#long - #kept > 0 and long:byte(#kept + 1) ~= 0x80)
			end
		end
		local whole = assert(encode.event(core, event({text = ("x"):rep(16000)})))
		assert.is_nil(whole:find("truncated", 1, true))
	end)

	it("counts and writes UTF-8 where the engine writes escapes", function()
		local escaping = {write_json = function()
			return '{"text":"\\u00e4\\u20ac\\ud83d\\ude00 \\\\u00e4 \\\\\\u00e4 \\u0001","type":"x"}\n'
		end}
		local line = encode.event(escaping, event({}))
		assert.are.equal('{"id":"b:1","text":"ä€😀 \\\\u00e4 \\\\ä \\u0001","type":"x"}', line)
	end)

	it("counts an agent's name in characters", function()
		assert.is_string(encode.event(core, event({agent_id = ("ä"):rep(256)})))
		assert.is_nil(encode.event(core, event({agent_id = ("ä"):rep(257)})))
	end)
end)

describe("encode.data", function()
	it("leaves out values that have no JSON form", function()
		local data = encode.data(core, {a = 0 / 0, b = 1 / 0, c = print, d = 1, e = {1, 1 / 0, 3}, f = false})
		assert.are.same({d = 1, e = {1, 3}, f = false}, data)
	end)

	it("encodes mixed tables as objects", function()
		assert.are.same({["1"] = "x", y = 2}, encode.data(core, {"x", y = 2}))
		assert.are.same({["5"] = "x"}, encode.data(core, {[5] = "x"}))
	end)

	it("refuses a table that contains itself", function()
		local data = {}
		data.data = data
		local copy, why = encode.data(core, data)
		assert.is_nil(copy)
		assert.is_string(why)
	end)
end)

describe("encode.clean", function()
	it("removes colours, translations and control characters", function()
		assert.are.equal("red text", encode.clean(core, "\27(c@#ff0000)red\27(c@#ffffff) text"))
		assert.are.equal("hello you", encode.clean(core, "\27(T@mod)hello\27E\nyou\0"))
		assert.are.equal("before behind", encode.clean(core, "before\0 behind"))
		assert.are.same({key = "value"}, encode.data(core, {["k\0ey"] = "val\0ue"}))
		assert.are.equal("grüße", encode.clean(core, "grüße"))
	end)
end)

describe("encode.position and percent", function()
	it("accepts only coordinates within a world", function()
		assert.are.same({x = 1, y = 2, z = 3}, encode.position({x = 1, y = 2, z = 3, w = 4}))
		assert.is_nil(encode.position({x = 1, y = 2}))
		assert.is_nil(encode.position({x = 0 / 0, y = 2, z = 3}))
		assert.is_nil(encode.position({x = 1 / 0, y = 2, z = 3}))
	end)

	it("encodes a path segment", function()
		assert.are.equal("npc%3Aa%2Fb%20%C3%A4-._~", encode.percent("npc:a/b ä-._~"))
	end)
end)
