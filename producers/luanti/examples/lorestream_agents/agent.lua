-- A character: an entity whose life is a coroutine. Its functions wait where a person would: walking, working, and
-- searching in the memory return when they are done.

return function(parts)
	local walk, Memory, speed, elapsed = parts.walk, parts.Memory, parts.speed, parts.elapsed

	local Agent = {}
	Agent.__index = Agent

	-- The least time between two decisions, in seconds.
	local THINK_S = 0.5
	-- The pause after an error in the code of a character, and after his death.
	local TROUBLE_S, RESPAWN_S = 5, 10
	local MAX_STEP_S = 0.25
	local MAX_HP, HEAL_S = 20, 10
	-- Entities with a mesh stand on their origin, the others have it in the middle.
	local mesh = rawget(_G, "player_api") ~= nil
	local FEET = mesh and -0.5 or 0.5

	-- The looks of a character: as players of minetest_game look, or a flat picture that every game has.
	function Agent.looks(def)
		return {
			visual = mesh and "mesh" or "upright_sprite",
			mesh = mesh and "character.b3d" or nil,
			textures = def.textures or (mesh and {"character.png"} or {"player.png", "player_back.png"}),
			visual_size = mesh and {x = 1, y = 1} or {x = 1, y = 2},
			physical = false,
			collisionbox = mesh and {-0.3, 0, -0.3, 0.3, 1.7, 0.3} or {-0.3, -1, -0.3, 0.3, 0.8, 0.3},
			nametag = def.title,
		}
	end

	-- saved: what save() returned, or {id}.
	function Agent.new(def, object, saved)
		local self = setmetatable({def = def, object = object, id = saved.id}, Agent)
		self.place = vector.round(vector.offset(object:get_pos(), 0, -FEET, 0))
		self.home = saved.home and vector.copy(saved.home) or self.place
		self.hp, self.bag, self.tally = saved.hp or MAX_HP, saved.bag or {}, saved.tally or {}
		self.load = saved.load or 0
		-- What a kind of character keeps while it is not loaded: a table that core.serialize can write.
		self.own = saved.own or {}
		-- How far the character's clock is ahead of the game's, and what he may still spend of this step, in seconds.
		self.ahead, self.budget = saved.ahead or 0, 0
		self.random = saved.seed and Agent.dice(saved.seed) or math.random
		self.memory = Memory.new(self.id, function()
			return self:now()
		end)
		object:set_armor_groups({immortal = 1})
		return self
	end

	-- A function that returns numbers from 0 to 1, the same for the same seed.
	function Agent.dice(seed)
		local source = PcgRandom(seed)
		return function()
			return source:next(0, 999999) / 1000000
		end
	end

	function Agent:save()
		return {id = self.id, home = self.home, hp = self.hp, bag = self.bag, load = self.load, tally = self.tally,
			ahead = self.ahead, own = self.own}
	end

	-- The character's clock in seconds. It stands still while the server is down.
	function Agent:now()
		return elapsed() + self.ahead - self.budget
	end

	function Agent:pos()
		return self.place
	end

	-- The position to stand on at x, z nearest to the height y, or nil.
	Agent.stand = walk.stand

	function Agent:say(text)
		core.log("action", ("[%s] %s: %s"):format(self.def.name, self.id, text))
	end

	-- Lets time pass.
	function Agent:spend(seconds)
		while self.budget < seconds do
			seconds = seconds - self.budget
			self.budget = 0
			coroutine.yield()
		end
		self.budget = self.budget - seconds
	end

	-- Asks the memory several questions at once (see memory.lua); waits, and returns one list of notes for each.
	function Agent:ask(...)
		local questions, answers = {...}, {}
		local open = #questions
		for i, question in ipairs(questions) do
			self.memory:recall(question, function(notes)
				answers[i], open = notes, open - 1
			end)
		end
		while open > 0 do
			-- A search takes its real time, however fast the character lives.
			self.waiting = true
			coroutine.yield()
		end
		self.waiting = false
		return unpack(answers)
	end

	function Agent:remember(text, metadata, ttl)
		self.memory:remember(text, metadata, ttl)
	end

	function Agent:look(names)
		return walk.look(self.place, names, self.def.sight)
	end

	function Agent:move(node)
		local way = vector.subtract(node, self.place)
		self.place = vector.new(node)
		self.object:move_to(vector.offset(node, 0, FEET, 0), true)
		if way.x ~= 0 or way.z ~= 0 then
			self.object:set_yaw(core.dir_to_yaw(way))
		end
	end

	-- Walks until the target is within reach (in nodes). dangers: places to avoid, see route.lua. notice(): called
	-- underway; if it returns true, he stops. Returns true, or false and "unreachable", "unloaded", "blocked",
	-- "noticed" or "died".
	function Agent:walk_to(target, reach, dangers, notice)
		if not walk.can_pass(self.place) then
			-- The ground is gone, or somebody built here.
			self:move(walk.stand(self.place.x, self.place.y, self.place.z) or self.home)
		end
		local path, why = walk.path(self.place, target, reach, dangers or {})
		if not path then
			return false, why
		end
		for i = 2, #path do
			if not walk.can_pass(path[i]) then
				return false, "blocked"
			end
			local took_s = vector.distance(path[i], self.place) / self.def.speed
			self:spend(took_s)
			self:move(path[i])
			local harm = walk.harm(path[i]) * took_s
			if harm > 0 then
				self:hurt(harm, core.get_node(path[i]).name)
			end
			if self.hp <= 0 then
				return false, "died"
			elseif notice and notice() then
				return false, "noticed"
			end
		end
		return true
	end

	-- Removes a node that he may dig, and puts what it drops into his bag. Returns its name, or nil.
	function Agent:dig(pos)
		local name = core.get_node(pos).name
		if name == "air" or name == "ignore" or core.is_protected(pos, "") then
			return nil
		end
		core.remove_node(pos)
		core.check_for_falling(pos)
		for _, item in ipairs(core.get_node_drops(name, "")) do
			local stack = ItemStack(item)
			self.bag[stack:get_name()] = (self.bag[stack:get_name()] or 0) + stack:get_count()
		end
		return name
	end

	-- Counts something, for the players and for measurements.
	function Agent:count(what, amount)
		self.tally[what] = (self.tally[what] or 0) + amount
	end

	-- Takes damage; def.on_hurt(self, amount, source) is told.
	function Agent:hurt(amount, source)
		self.hp = self.hp - amount
		self:count("damage", amount)
		if self.def.on_hurt then
			self.def.on_hurt(self, amount, source)
		end
	end

	-- Heals the time that he lived; after his death he begins again at home with an empty bag.
	local function recover(self, lived_s)
		if self.hp > 0 then
			self.hp = math.min(MAX_HP, self.hp + lived_s / HEAL_S)
			return
		end
		self:say("died")
		self:count("deaths", 1)
		self.bag, self.load, self.visit = {}, 0, nil
		self:move(self.home)
		self:spend(RESPAWN_S)
		self.hp = MAX_HP
	end

	-- pause_s: how long he waits before he begins.
	local function live(self, pause_s)
		self:spend(pause_s)
		while true do
			local began_s = self:now()
			self.def.live(self)
			local lived_s = self:now() - began_s
			if lived_s < THINK_S then
				self:spend(THINK_S - lived_s)
			end
			recover(self, self:now() - began_s)
		end
	end

	function Agent:step(dtime)
		-- After a slow step of the server he does not make up for what he missed: it would make the next one slow.
		dtime = math.min(dtime, MAX_STEP_S)
		local lived_s = self.waiting and dtime or dtime * speed
		self.ahead = self.ahead + lived_s - dtime
		self.budget = self.budget + lived_s
		local pause_s
		if not self.routine then
			self.routine, pause_s = coroutine.create(live), self.trouble and TROUBLE_S or 0
		end
		local ok, trouble = coroutine.resume(self.routine, self, pause_s)
		if not ok then
			trouble = tostring(trouble)
			if trouble ~= self.trouble then
				core.log("error", ("[%s] %s has a fault in its code and pauses: %s"):format(self.def.name, self.id, trouble))
			end
			self.routine, self.waiting, self.trouble = nil, false, trouble
		end
	end

	-- What he carries goes to a player; what does not fit stays in his bag.
	function Agent:give(player)
		local inventory = player:get_inventory()
		local rest = {}
		for name, amount in pairs(self.bag) do
			local left = inventory:add_item("main", ItemStack(name .. " " .. amount)):get_count()
			rest[name] = left > 0 and left or nil
		end
		self.bag = rest
	end

	return Agent
end
