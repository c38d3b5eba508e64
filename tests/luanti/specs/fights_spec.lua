local fake = dofile("tests/luanti/specs/fake_core.lua")
local Privacy = fake.load("privacy")

-- A recorder whose events are collected in the list `written`; folds are closed at once.
local function recorder_of(core, privacy, written)
	core.get_us_time = function() return 1e6 end
	core.get_gametime = function() return 5 end
	local recorder = fake.load("recorder").new({
		core = core,
		encode = fake.load("encode"),
		spool = {put = function() end},
		clock = {stamp = function() return 1 end},
		fold = fake.load("fold"),
		profile = {add = function() end},
		guard = fake.load("guard")(function(_, text) error(text) end),
		boot = "b",
		fold_interval = 0,
		say = function(_, _, text) error(text) end,
		privacy = privacy,
		importance = {},
		valid_importance = fake.load("importance").valid,
		bindings = fake.load("bind").new(function() end),
		on_write = function() end,
	})
	local write = recorder.write
	function recorder:write(event)
		written[#written + 1] = {event.agent_id, event.type, event.player, event.data}
		return write(self, event)
	end
	return recorder
end

local ALL = setmetatable({}, {__index = function() return true end})

local function player(name, weapon)
	return {
		is_player = function() return true end,
		get_player_name = function() return name end,
		get_pos = function() return {x = 1, y = 2, z = 3} end,
		get_wielded_item = function() return {get_name = function() return weapon or "" end} end,
		get_luaentity = function() return nil end,
	}
end

local function entity(name)
	local made = {name = name}
	made.object = {
		is_player = function() return false end,
		get_luaentity = function() return made end,
		get_pos = function() return {x = 1, y = 2, z = 3} end,
	}
	return made
end

describe("fights", function()
	local written, fights, recorder, privacy

	before_each(function()
		written = {}
		privacy = Privacy.new({get_string = function() return "" end, set_string = function() end})
		recorder = recorder_of(fake.core(), privacy, written)
		recorder.bindings:restore_in({name = "c:guard"})
		fights = fake.load("capture/fights")(recorder, ALL)
	end)

	it("between players are remembered by both, and the victim's memories name the attacker", function()
		local ann, bob = player("Ann", "a:sword"), player("Bob")
		fights.punch(ann, bob)
		fights.damage(bob, ann, 3, "punch")
		fights.death(bob, ann, "punch")
		assert.are.same({
			{"player:Ann", "punch", "Ann", {target = "player", weapon = "a:sword", count = 1}},
			{"player:Bob", "damage", "Ann", {reason = "punch", source = "player", weapon = "a:sword", amount = 3}},
			{"player:Bob", "death", "Ann", {reason = "punch", source = "player", weapon = "a:sword"}},
			{"player:Ann", "kill", "Ann", {target = "player", weapon = "a:sword"}},
		}, written)
	end)

	it("with an entity that has an agent id are remembered by the entity", function()
		local ann, guard, wolf = player("Ann"), entity("c:guard"), entity("c:wolf")
		recorder.bindings:bind(guard, "npc:guard")
		fights.punch(guard.object, ann)
		fights.death(ann, guard.object, "punch")
		fights.punch(guard.object, wolf.object)
		fights.damage(guard.object, wolf.object, 2, "punch")
		fights.punch(wolf.object, wolf.object)
		fights.death(wolf.object, nil, "punch")
		assert.are.same({
			{"npc:guard", "punch", "Ann", {target = "player", by = "c:guard", count = 1}},
			{"player:Ann", "death", "Ann", {reason = "punch", source = "c:guard"}},
			{"npc:guard", "kill", "Ann", {target = "player", by = "c:guard"}},
			{"npc:guard", "punch", nil, {target = "c:wolf", count = 1}},
			{"npc:guard", "damage", nil, {reason = "punch", source = "c:wolf", amount = 2}},
		}, written)
	end)

	it("do not record a player who has opted out", function()
		local ann, bob, guard = player("Ann"), player("Bob"), entity("c:guard")
		privacy:set("Ann", true)
		recorder.bindings:bind(guard, "npc:guard")
		fights.punch(ann, bob)
		fights.damage(ann, bob, 1, "punch")
		fights.damage(bob, ann, 1, "punch")
		fights.damage(guard.object, ann, 1, "punch")
		fights.punch(guard.object, ann)
		assert.are.same({
			{"player:Bob", "damage", "Bob", {reason = "punch", source = "player", amount = 1}},
			{"npc:guard", "damage", nil, {reason = "punch", source = "player", amount = 1}},
			{"npc:guard", "punch", nil, {target = "player", count = 1}},
		}, written)
	end)

	it("do not record a machine as its owner", function()
		local machine, bob = player("Ann"), player("Bob")
		machine.is_fake_player = true
		fights.punch(machine, bob)
		fights.damage(bob, machine, 1, "punch")
		assert.are.same({{"player:Bob", "damage", "Bob", {reason = "punch", source = "player", amount = 1}}}, written)
	end)

	it("of other causes name the cause", function()
		fights.damage(player("Bob"), nil, 4, "node_damage", "default:lava")
		assert.are.same({{"player:Bob", "damage", "Bob",
			{reason = "node_damage", source = "default:lava", amount = 4}}}, written)
	end)
end)

describe("zones", function()
	it("are recorded when a player is found in a new one twice in a row", function()
		local written, pos = {}, {x = 0, y = 0, z = 0}
		local ann = player("Ann")
		ann.get_pos = function() return pos end
		local core = fake.core()
		core.get_connected_players = function() return {ann} end
		local privacy = Privacy.new({get_string = function() return "" end})
		local recorder = recorder_of(core, privacy, written)
		local now_us = 0
		local step = fake.load("capture/zones")(recorder, ALL)
		local function at(x)
			pos = {x = x, y = 0, z = 0}
			step(now_us)
			-- Steps within the same second are not samples.
			step(now_us + 1)
			now_us = now_us + 1e6
		end
		for _, x in ipairs({0, 63, 64, 63, 64, 63, 128, 192, 256, 257, 257}) do
			at(x)
		end
		assert.are.same({{"player:Ann", "zone", "Ann", {zone = "4,0,0", from = "0,0,0"}}}, written)
	end)
end)
