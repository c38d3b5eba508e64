-- Records fights on both sides. Who strikes or kills remembers "punch" and "kill", who is struck or dies remembers
-- "damage" and "death". Sides are players, and entities that have an agent id (see bind.lua).

return function(recorder, enabled)
	local fights = {}

	-- Where an entity with an agent id was struck: when its death is recorded, it may be gone.
	local struck_at = setmetatable({}, {__mode = "k"})

	-- Who someone is, for recording: {object, entity, agent, player, label, pos}. Takes an object or a Lua entity.
	-- agent: the agent that remembers, or nil; player: the name of a player who may be recorded, or nil; label: "player"
	-- or the entity's name.
	local function side(someone)
		local entity = type(someone) == "table" and someone.object and someone
		local object = entity and entity.object or someone
		local label = entity and entity.name or recorder.subject(object)
		if label == "player" then
			local name = recorder:player_name(object)
			return {object = object, agent = name and "player:" .. name, player = name, label = label,
				pos = object:get_pos()}
		elseif not label then
			return {object = object}
		end
		entity = entity or object:get_luaentity()
		return {object = object, entity = entity, agent = recorder.bindings:agent_of(entity), label = label,
			pos = object:get_pos() or struck_at[entity]}
	end

	local function weapon_of(object)
		local stack = object and object.get_wielded_item and object:get_wielded_item()
		local name = stack and stack:get_name()
		return name ~= "" and name or nil
	end

	-- The event's player is the other side if that is a player: an agent can then search for what a player did to it.
	local function event_of(kind, me, other, data)
		return recorder:memory(kind, me.agent, other.player or me.player, me.pos, data)
	end

	-- What the one who acts remembers. `by` is set where the event's player is the target and not the one who acts.
	local function act(kind, actor, target)
		local by = not actor.player and target.player and actor.label or nil
		local event = event_of(kind, actor, target, {target = target.label, weapon = weapon_of(actor.object), by = by})
		-- A player who acts is the event's player, as in everything else that a player does.
		event.player = actor.player or event.player
		return event
	end

	local function suffer(kind, victim, actor, reason, other_source)
		return event_of(kind, victim, actor,
			{reason = reason, source = actor.label or other_source, weapon = weapon_of(actor.object)})
	end

	-- attacker and target are objects or Lua entities.
	function fights.punch(attacker, target)
		local actor, victim = side(attacker), side(target)
		if enabled.punch and actor.agent then
			recorder:fold_event(act("punch", actor, victim), (victim.label or "") .. "|" .. (victim.player or ""), "count", 1)
		end
	end

	-- reason: the engine's type of damage. attacker: an object, or nil; other_source: what hurt in its place.
	function fights.damage(target, attacker, amount, reason, other_source)
		local victim, actor = side(target), side(attacker)
		if victim.agent and victim.entity then
			struck_at[victim.entity] = victim.pos
		end
		if enabled.damage and victim.agent then
			local event = suffer("damage", victim, actor, reason, other_source)
			local subject = (reason or "") .. "|" .. (event.data.source or "") .. "|" .. (actor.player or "")
			recorder:fold_event(event, subject, "amount", amount)
		end
	end

	local function write(event)
		recorder.folds:close_agent(event.agent_id)
		recorder:write(event)
	end

	-- The arguments are those of damage.
	function fights.death(target, attacker, reason, other_source)
		local victim, actor = side(target), side(attacker)
		if enabled.death and victim.agent then
			write(suffer("death", victim, actor, reason, other_source))
		end
		if enabled.kill and actor.agent then
			write(act("kill", actor, victim))
		end
	end

	return fights
end
