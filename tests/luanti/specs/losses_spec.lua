local fake = dofile("tests/luanti/specs/fake_core.lua")
local Losses, Notices, Segment = fake.load("losses"), fake.load("notices"), fake.load("segment")

local function line(number, kind)
	return ('{"id":"b0:%d","agent_id":"a","type":"%s"}'):format(number, kind or "dig")
end

-- What a full spool drops: events with these numbers; count: how many, if it is more.
local function dropped(numbers, count)
	local ids = fake.load("ids").new()
	for _, number in ipairs(numbers) do
		ids:add(line(number), 1)
	end
	return {count = count or #numbers, types = #numbers > 0 and {dig = #numbers} or {}, ids = ids}
end

describe("losses", function()
	local dir, said

	before_each(function()
		dir, said = fake.folder(), {}
	end)

	after_each(function()
		os.execute("rm -r '" .. dir .. "'")
	end)

	-- As at the start of a server in the same world.
	local function open()
		local losses = Losses.new({
			path = dir .. "/lost", Ids = fake.load("ids"), type_of = Segment.type_of,
			write_json = fake.core().write_json, parse_json = fake.parse_json,
			time = function() return 7 end,
			say = function(_, kind, text)
				said[#said + 1] = kind .. ": " .. text
			end,
		})
		losses:load()
		return losses
	end

	local function entries()
		local list, file = {}, assert(io.open(dir .. "/lost"))
		for text in file:lines() do
			list[#list + 1] = fake.parse_json(text)
		end
		file:close()
		return list
	end

	it("are in the file with reason, types and ids, and survive a kill", function()
		local losses = open()
		losses:add("rejected (bad)", {line(3, "chat")})
		losses:add_full(dropped({5, 6, 7, 9, 10, 12}))
		losses:add_full(dropped({}, 2))
		assert.are.same({
			{why = "rejected (bad)", count = 1, types = {chat = 1}, ids = {b0 = "3"}, time = 7},
			{why = "dropped because the spool was full", count = 6, types = {dig = 6}, ids = {b0 = "5-7,9-10,12"}, time = 7,
				full = true},
			{why = "dropped because the spool was full", count = 2, time = 7, full = true},
		}, entries())
		for _, now in ipairs({losses, open()}) do
			assert.are.equal(9, now.count)
			assert.are.equal(8, now.full)
			assert.are.same({count = 8, types = {dig = 6}}, now:unreported())
			assert.are.equal("1 rejected (bad); 8 dropped because the spool was full", now:reasons_text())
		end
		assert.is_truthy(said[1]:find(dir .. "/lost", 1, true))
	end)

	it("are reported and told once, over a kill too", function()
		local losses = open()
		losses:add_full(dropped({1}))
		losses:reported()
		assert.is_nil(losses:unreported())
		losses:add_full(dropped({2}))
		local again = open()
		assert.are.same({count = 1, types = {dig = 1}}, again:unreported())
		assert.are.equal(2, again.count)
		again:mark_told()
		again:mark_told()
		assert.are.equal(0, open().count)
		assert.are.equal(1, open().full)
		assert.are.equal(4, #entries())
	end)

	it("are read where the last line is incomplete, or lines are nonsense", function()
		local losses = open()
		losses:add_full(dropped({1}))
		local file = io.open(dir .. "/lost", "ab")
		file:write('[1]\n7\n{"why":7}\n{"why":"x","count":-5}\n{"why":"x","count":1e999,"full":true,"types":[3]}\n')
		file:write('{"why":"x","cou')
		file:close()
		assert.are.equal(1, open().count)
	end)

	it("keep what is unreported when the file is renamed", function()
		local losses = open()
		local many = {}
		for n = 1, 400, 2 do
			many[#many + 1] = n * 1000000000
		end
		for _ = 1, 450 do
			losses:add_full(dropped(many))
		end
		assert.is_true(#entries() < 450)
		local again = open()
		assert.are.equal(450 * 200, again:unreported().count)
		assert.are.equal(450 * 200, again:unreported().types.dig)
	end)

	it("have a limited number of reasons", function()
		local losses = open()
		for n = 1, 100 do
			losses:add("reason " .. n, {line(n)})
		end
		assert.are.equal(100, losses.count)
		assert.is_true(#losses:reasons_text() < 500)
	end)

	it("are told to admins in the chat, at most once a minute, and when they join", function()
		local losses, told, players = open(), {}, {"admin", "player"}
		local core = {
			check_player_privs = function(name) return name == "admin" end,
			chat_send_player = function(name, text)
				told[#told + 1] = name .. ": " .. text
			end,
			get_connected_players = function()
				local list = {}
				for i, name in ipairs(players) do
					list[i] = {get_player_name = function() return name end}
				end
				return list
			end,
		}
		local notices = Notices.new(core, function(text, ...)
			local values = {...}
			return (text:gsub("@(%d)", function(i) return values[tonumber(i)] end))
		end, losses)
		local admin = table.remove(players, 1)
		losses:add("rejected (bad)", {line(0)})
		notices:step(0)
		assert.are.same({}, told)
		table.insert(players, 1, admin)
		losses:add("rejected (bad)", {line(1)})
		notices:step(1e6)
		local text = "admin: [Lorestream] 2 events were lost: 2 rejected (bad). Their ids are in " .. dir .. "/lost"
		assert.are.same({text}, told)
		for n = 2, 50 do
			losses:add("rejected (bad)", {line(n)})
			notices:step(n * 1e6)
		end
		assert.are.equal(1, #told)
		notices:step(61e6)
		notices:step(200e6)
		assert.are.equal(2, #told)
		assert.is_truthy(told[2]:find("51 rejected", 1, true))
		assert.are.equal(0, open().count)

		players = {"player"}
		losses:add("refused", {line(51)})
		notices:step(300e6)
		assert.are.equal(2, #told)
		assert.are.equal(1, open().count)
		notices:greet({get_player_name = function() return "player" end})
		assert.are.equal(2, #told)
		notices:greet({get_player_name = function() return "admin" end})
		assert.are.equal(3, #told)
		assert.are.equal(0, open().count)
	end)
end)
