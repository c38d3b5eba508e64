-- Turns captured events into lines of the spool: adds ids and times, folds repeated events, and wraps the handlers.

local Recorder = {}
Recorder.__index = Recorder

-- options: core, encode, spool, clock, fold (class), profile, guard, boot, fold_interval, say (limited.lua), privacy,
-- importance (by type), valid_importance(value), bindings, on_write(agent_id).
function Recorder.new(options)
	local self = setmetatable({}, Recorder)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.sequence, self.captured, self.refused = 0, 0, 0
	self.folds = options.fold.new(options.fold_interval, function(event)
		self:write(event)
	end)
	return self
end

-- Game time in seconds; nil while the world is loading.
function Recorder:tick()
	return self.core.get_gametime()
end

-- Counts and logs an event that cannot be sent. what: the event in words. Returns nil and the reason.
function Recorder:refuse(what, why)
	self.refused = self.refused + 1
	self.say("error", "refused: " .. why, ("%s was refused: %s"):format(what, why))
	return nil, why
end

-- Adds one event with a new id to the spool. Returns the id, or nil and the reason: "opted_out" if the event is about a
-- player who has opted out.
function Recorder:write(event)
	if self.privacy:forbids(event) then
		return nil, "opted_out"
	end
	self.sequence = self.sequence + 1
	event.id = self.boot .. ":" .. self.sequence
	event.importance = self.valid_importance(event.importance) or self.valid_importance(self.importance[event.type])
	event.time = event.time or self.clock:stamp()
	event.tick = event.tick or self:tick()
	local line, why = self.encode.event(self.core, event)
	if not line then
		return self:refuse("an event of type " .. tostring(event.type), why)
	end
	self.captured = self.captured + 1
	self.spool:put(line, self.core.get_us_time())
	self.on_write(event.agent_id)
	return event.id
end

local function rounded(pos)
	return {x = math.floor(pos.x + 0.5), y = math.floor(pos.y + 0.5), z = math.floor(pos.z + 0.5)}
end

-- An event of an agent, with the name of a player or nil. The name must be in agent_id and player only: there the
-- gateway replaces it by a pseudonym.
function Recorder:memory(kind, agent_id, player, pos, data)
	return {agent_id = agent_id, player = player, type = kind, pos = pos and rounded(pos), data = data,
		time = self.clock:stamp(), tick = self:tick()}
end

-- An event of a player.
function Recorder:deed(kind, name, pos, data)
	return self:memory(kind, "player:" .. name, name, pos, data)
end

-- Adds an event that may be repeated: amount is added to data[sum_key] of the fold.
function Recorder:fold_event(event, subject, sum_key, amount)
	self.folds:add(event, subject, sum_key, amount, self.core.get_us_time())
end

-- Wraps a handler: it raises no error, returns nothing (a return value would suppress chat or damage), and is timed.
function Recorder:wrap(name, handler)
	local guarded = self.guard.wrap("recording " .. name, handler)
	return function(...)
		local began = self.core.get_us_time()
		guarded(...)
		self.profile:add(self.core.get_us_time() - began)
	end
end

-- The name of a player whose events are captured, or nil: the object may be nil, a machine or an entity. Machines of
-- pipeworks and technic say that they are players, with the name of their owner.
function Recorder:player_name(object)
	if not object or type(object.is_player) ~= "function" or not object:is_player() or object.is_fake_player then
		return nil
	end
	local name = object:get_player_name()
	if type(name) ~= "string" or name == "" or self.privacy:opted_out(name) then
		return nil
	end
	return name
end

-- What an object is, without a player's name: "player", the name of the entity, or nil.
function Recorder.subject(object)
	if not object or type(object.is_player) ~= "function" then
		return nil
	elseif object:is_player() then
		return "player"
	end
	local entity = object.get_luaentity and object:get_luaentity()
	return entity and entity.name or nil
end

return Recorder
