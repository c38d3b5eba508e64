-- The whole mod gets random and mutated answers from its services.

local fake = dofile("tests/luanti/specs/fake_core.lua")

local ANSWERS = 500
local EVENTS = 60

local CODES = {0, 200, 202, 202, 202, 202, 202, 202, 202, 202, 202, 204, 302, 400, 400, 401, 404,
	408, 413, 422, 429, 500, 503, -7, 1e300, "202"}
-- What a field is replaced by.
local VALUES = {"null", "0", "-1", "3", "1e400", "-1e400", "0.5", "18446744073709551616", "NaN", "true", '""', '"1"',
	'"\\u0000"', "[]", "{}", "[5]", "[null,5]", '{"a":1}', '[{"index":"0"}]', '[{"index":0,"code":7}]',
	("["):rep(1000) .. ("]"):rep(1000), ("["):rep(1001) .. ("]"):rep(1001), '"' .. ("x"):rep(300000) .. '"'}
local EVENT_ANSWER = '{"accepted":%d,"rejected":[%s],"ids":["u",null],"token":"t","retry_after_ms":0,' ..
	'"error":{"code":"bad","message":"m"}}'
local MEMORIES = '{"results":[{"memories":[{"id":"i","text":"t","score":0.5,"pos":{"x":1,"y":2,"z":3},' ..
	'"metadata":{"a":1}},{"text":"u"}],"fresh":true}],"error":{"code":"bad","message":"m"}}'
local CONTEXT = '{"contexts":[{"recent":[{"text":"t"}],"relevant":[],"text":"t","tokens":3,"fresh":true}],' ..
	'"results":[],"error":{"code":"bad","message":"m"}}'

local function random_bytes()
	local bytes = {}
	for i = 1, math.random(0, 40) do
		bytes[i] = string.char(math.random(0, 255))
	end
	return table.concat(bytes)
end

-- One value of the text, often one of the first two, is replaced, or the text is cut or disturbed.
local function mutated(text)
	local way = math.random(10)
	if way == 1 then
		return text:sub(1, math.random(0, #text))
	elseif way == 2 then
		local at = math.random(#text)
		return text:sub(1, at) .. random_bytes() .. text:sub(at + 1)
	end
	local places = {}
	for place in text:gmatch('":()') do
		places[#places + 1] = place
	end
	local place = places[math.random(way > 6 and 2 or #places)]
	local value = text:match("^%b[]", place) or text:match("^%b{}", place) or text:match('^"[^"]*"', place)
		or text:match("^[^,}%]]*", place)
	return text:sub(1, place - 1) .. VALUES[math.random(#VALUES)] .. text:sub(place + #value)
end

describe("random answers", function()
	local dir, list, core, now, tick, open, mod

	before_each(function()
		math.randomseed(20)
		dir, list = fake.folder()
		core, now, tick, open = fake.engine(), 1e6, 0, {}
		core.get_us_time = function()
			now = now + tick
			return now
		end
		core.get_worldpath = function()
			return dir
		end
		core.get_dir_list = list
		core.mkdir = function(path)
			os.execute("mkdir -p '" .. path .. "'")
		end
		core.settings.get = function(_, name)
			return ({["lorestream.recall_rate"] = "10000", ["lorestream.recall_burst"] = "10000"})[name]
		end
		core.request_http_api = function()
			return {
				fetch_async = function(request)
					open[#open + 1] = request
					return request
				end,
				fetch_async_get = function(request)
					return request.result or {completed = false}
				end,
			}
		end
		mod = fake.mod(core)
		open = {} -- without the greeting
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	local function step(seconds)
		now = now + seconds * 1e6
		for _, entry in ipairs(core.entries.globalstep) do
			entry(seconds)
		end
	end

	local function shut_down()
		tick = 1000 -- the mod waits until a second has passed
		for _, entry in ipairs(core.entries.shutdown) do
			entry()
		end
	end

	local function numbers_in(text)
		local numbers = {}
		for number in text:gmatch('"n":(%d+)') do
			numbers[#numbers + 1] = tonumber(number)
		end
		return numbers
	end

	-- Whether an answer accounts for so many events.
	local function accounts_for(code, body, count)
		local ok, answer = pcall(fake.parse_json, body)
		if not ok or type(answer) ~= "table" or type(answer.accepted) ~= "number" or code < 200 or code >= 300 then
			return false
		end
		local rejected = 0
		for _ in pairs(type(answer.rejected) == "table" and answer.rejected or {}) do
			rejected = rejected + 1
		end
		return answer.accepted + rejected == count
	end

	it("lose no event, and raise no error in the sender", function()
		local ids, done, answered = {}, {}, 0
		for n = 1, EVENTS do
			ids[assert(mod.emit("trade", "npc:a", {n = n}))] = n
		end
		local function answer(request, code, body)
			request.result = {completed = true, succeeded = true, code = code, data = body}
			local numbers = numbers_in(request.data)
			if type(code) == "number" and accounts_for(code, body, #numbers) then
				for _, n in ipairs(numbers) do
					done[n] = true
				end
			end
		end
		while answered < ANSWERS do
			step(100)
			local request = table.remove(open)
			if request then
				assert.is_truthy(request.url:find("/v1/events", 1, true))
				local count = #numbers_in(request.data)
				local rejects = count > 0 and math.random(3) == 1 and 1 or 0
				local reject = ('{"index":%d,"code":"invalid_event","message":"m"}'):format(math.random(0, count))
				local right = EVENT_ANSWER:format(count - rejects, rejects > 0 and reject or "")
				answer(request, CODES[math.random(#CODES)],
					math.random(10) == 1 and random_bytes() or math.random(4) == 1 and right or mutated(right))
				answered = answered + 1
			elseif mod.status().spooled == 0 then
				local n = 1
				for _ in pairs(ids) do
					n = n + 1
				end
				ids[assert(mod.emit("trade", "npc:a", {n = n}))] = n
			end
		end
		for _ = 1, 1000 do
			step(100)
			local request = table.remove(open)
			if request then
				answer(request, 202, EVENT_ANSWER:format(#numbers_in(request.data), ""))
			end
		end
		assert.are.equal(0, mod.status().spooled)
		shut_down()
		assert.are.equal(0, mod.status().errors, mod.status().error)

		local told, file = {}, io.open(dir .. "/lorestream_lost.ndjson")
		for line in file and file:lines() or function() end do
			for boot, parts in pairs(fake.parse_json(line).ids or {}) do
				for part in parts:gmatch("[^,]+") do
					local first, last = part:match("^(%d+)%-?(%d*)$")
					for number = first, last ~= "" and last or first do
						told[boot .. ":" .. number] = true
					end
				end
			end
		end
		for id, n in pairs(ids) do
			assert.is_true(done[n] or told[id] or false, ("event %d is neither accepted nor in the list"):format(n))
		end
		assert.is_true(next(told) ~= nil and next(done) ~= nil)
	end)

	it("end each search by exactly one callback, with fields of the right types", function()
		local called, found, wrong = {}, 0, 0
		for n = 1, ANSWERS do
			called[n] = 0
			local function callback(answer, err)
				called[n] = called[n] + 1
				local right = type(answer) == "table" and (err == nil or type(err) == "string")
				for _, memory in ipairs(right and answer.recent or answer) do
					right = right and type(memory) == "table" and type(memory.text) == "string"
						and type(memory.score or 0) == "number" and type(memory.metadata or {}) == "table"
						and (memory.pos == nil or type(memory.pos) == "table" and type(memory.pos.x) == "number")
				end
				wrong, found = wrong + (right and 0 or 1), found + (err and 0 or 1)
			end
			local right = n % 3 == 0 and CONTEXT or MEMORIES
			if n % 3 == 0 then
				mod.context("npc:a" .. n, {query = "what"}, callback)
			else
				mod.get("npc:a" .. n, "what", 5, nil, callback)
			end
			step(0.05)
			for i = #open, 1, -1 do
				local request = table.remove(open, i)
				local data = math.random(10) == 1 and random_bytes() or mutated(right)
				request.result = {completed = true, code = CODES[math.random(#CODES)], data = data}
			end
			step(1) -- after the pause that follows when nothing answered
		end
		shut_down()
		for n = 1, ANSWERS do
			assert.are.equal(1, called[n])
		end
		assert.are.equal(0, mod.status().errors, mod.status().error)
		assert.are.equal(0, wrong)
		assert.is_true(found > 50, found)
	end)

	it("end each read and write of a document by exactly one callback, and each write of a memory too", function()
		local called, applied, asked, rights = {}, 0, 0, {
			get = '{"entities":[{"data":{"a":1},"version":1}],"error":{"code":"bad","message":"m"}}',
			write = '{"applied":true,"version":1,"event_id":"e","token":"t","error":{"code":"bad","details":{"current":1}}}',
		}
		local function callback_of(n)
			called[n], asked = 0, n
			return function(answer, err)
				called[n] = called[n] + 1
				applied = applied + (type(answer) == "table" and not err and answer.version and 1 or 0)
			end
		end
		local function answer_all()
			for i = #open, 1, -1 do
				local request = table.remove(open, i)
				local right = request.url:find("/batch", 1, true) and rights.get or rights.write
				if request.url:find("/v1/events", 1, true) then
					right = EVENT_ANSWER:format(select(2, request.data:gsub('"agent_id"', "")), "")
				end
				local data = math.random(4) == 1 and right or mutated(right)
				request.result = {completed = true, code = CODES[math.random(#CODES)], data = data}
			end
		end
		for n = 1, ANSWERS, 3 do
			local document = mod.state("npc:a" .. n, "plan")
			document:get(callback_of(n))
			document:put({step = n}, nil, callback_of(n + 1))
			mod.put("npc:a", "text", nil, nil, callback_of(n + 2))
			step(0.3)
			answer_all()
			step(0.3)
		end
		for _ = 1, 100 do
			step(0.5)
			answer_all()
		end
		shut_down()
		for n = 1, asked do
			assert.are.equal(1, called[n], n)
		end
		assert.are.equal(0, mod.status().errors, mod.status().error)
		assert.is_true(applied > 20, applied)
	end)
end)
