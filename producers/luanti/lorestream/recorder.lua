-- Turns what happens into lines of the spool: ids, times, folding, and the guard around every handler.

local Recorder = {}
Recorder.__index = Recorder

-- options: core, encode, spool, clock, fold (class), profile, boot, fold_interval, log, is_captured(name).
function Recorder.new(options)
	local self = setmetatable({}, Recorder)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.sequence = 0
	self.refused = 0
	self.failed = {}
	self.folds = options.fold.new(options.fold_interval, function(event)
		self:write(event)
	end)
	return self
end

-- Game time in seconds, nil while the world is loading.
function Recorder:tick()
	return self.core.get_gametime()
end

-- Spools one event under a new id. Returns the id, or nil and the reason.
function Recorder:write(event)
	self.sequence = self.sequence + 1
	event.id = self.boot .. ":" .. self.sequence
	event.time = event.time or self.clock:stamp()
	event.tick = event.tick or self:tick()
	local line, why = self.encode.event(self.core, event)
	if not line then
		self.refused = self.refused + 1
		self.log("error", ("an event of type %s is refused: %s"):format(tostring(event.type), why))
		return nil, why
	end
	self.spool:put(line, self.core.get_us_time())
	return event.id
end

local function rounded(pos)
	return {x = math.floor(pos.x + 0.5), y = math.floor(pos.y + 0.5), z = math.floor(pos.z + 0.5)}
end

-- What a player did. The name is in agent_id and player only: the gateway replaces it there.
function Recorder:deed(kind, name, pos, data)
	return {agent_id = "player:" .. name, player = name, type = kind, pos = pos and rounded(pos), data = data,
		time = self.clock:stamp(), tick = self:tick()}
end

-- One deed that may be one of many: data[sum_key] is summed by amount.
function Recorder:fold_deed(event, subject, sum_key, amount)
	self.folds:add(event, subject, sum_key, amount, self.core.get_us_time())
end

-- A handler that never fails, never returns anything (which would swallow chat or damage), and is measured.
function Recorder:guard(name, handler)
	return function(...)
		local began = self.core.get_us_time()
		local ok, trouble = pcall(handler, ...)
		self.profile:add(self.core.get_us_time() - began)
		if not ok and not self.failed[name] then
			self.failed[name] = true
			self.log("error", ("capture of %s failed (said once): %s"):format(name, tostring(trouble)))
		end
	end
end

-- The name of a real, captured player, or nil: diggers may be nil, machines or entities.
function Recorder:player_name(object)
	if not object or type(object.is_player) ~= "function" or not object:is_player() then
		return nil
	end
	local name = object:get_player_name()
	if type(name) ~= "string" or name == "" or not self.is_captured(name) then
		return nil
	end
	return name
end

-- Who or what an object is, without a name: "player", the entity's name, or nil.
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
