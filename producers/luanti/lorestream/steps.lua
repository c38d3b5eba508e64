-- What is done in each server step, and at shutdown.

-- Time limit for writing finished folds in one server step; the rest waits for the next step.
local FOLD_BUDGET_US = 300
-- The spool's upkeep runs in a step that has taken less time than this, but at least in every second step.
local TEND_BUDGET_US = 100
local TEND_EVERY = 2

return function(parts)
	local core, guard, recorder, spool = parts.core, parts.guard, parts.recorder, parts.spool
	local sender, questions, limited, notices = parts.sender, parts.questions, parts.limited, parts.notices
	local micros = core.get_us_time

	local last_warning_us = 0
	local steps_untended = 0

	-- Each part of a step has a guard of its own, so that an error in one does not stop the others.
	local send = guard.wrap("sending events", function(now_us)
		return sender and sender:step(now_us)
	end)
	local fold = guard.wrap("folding events", function(now_us)
		recorder.folds:step(now_us, function()
			return micros() - now_us < FOLD_BUDGET_US
		end)
	end)
	local tend = guard.wrap("the upkeep of the spool", function(now_us)
		steps_untended = 0
		spool:tend(now_us)
	end)
	local tell = guard.wrap("telling of losses", function(now_us)
		limited.step(now_us)
		notices:step(now_us)
	end)
	local collect = guard.wrap("reading answers", function()
		parts.requests:step()
	end)
	local call_back = guard.wrap("answering searches", function()
		questions:step(micros())
	end)
	local write = guard.wrap("writing documents", function()
		parts.documents:step(micros())
	end)
	local acknowledge = guard.wrap("acknowledging events", function()
		parts.receipts:step(micros())
	end)
	local ask = guard.wrap("sending searches", function()
		questions:flush()
	end)
	local spent_us = 0

	core.register_globalstep(guard.wrap("the server step", function()
		local began = micros()
		recorder.clock:now_ms()
		steps_untended = steps_untended + 1
		if spool:awaits_file() and steps_untended > 1 then
			-- Creating or deleting a file may take a millisecond: do nothing else in this step.
			tend(began)
		else
			local busy = send(began)
			fold(began)
			local light = micros() - began < TEND_BUDGET_US
			if not busy and not spool:awaits_file() and (light or steps_untended >= TEND_EVERY) then
				tend(began)
			end
		end
		tell(began)
		parts.capture.step(began)
		collect()
		local foreign_us = parts.callbacks.us
		call_back()
		acknowledge()
		write()
		-- Callbacks are the work of other mods.
		spent_us = micros() - began - (parts.callbacks.us - foreign_us)
	end))

	local function finish()
		local began = micros()
		ask()
		local own_us = spent_us + micros() - began
		parts.profile:add(own_us)
		if own_us > parts.profile.limit_us and began - last_warning_us > 60e6 then
			last_warning_us = began
			parts.log("warning", ("the mod took %.1f ms in one server step"):format(own_us / 1000))
		end
	end
	local finish_step = guard.wrap("the end of the server step", finish)
	core.register_globalstep(finish_step)
	core.register_on_mods_loaded(guard.wrap("putting the end of the step last", function()
		-- Behind the steps of all other mods, so that what they ask in a step travels in one request.
		local steps = core.registered_globalsteps
		for i = #steps, 1, -1 do
			if steps[i] == finish_step then
				table.insert(steps, table.remove(steps, i))
				return
			end
		end
	end))

	local function at_shutdown(what, fn)
		core.register_on_shutdown(guard.wrap(what, fn))
	end
	at_shutdown("recording that players leave", function()
		parts.capture.finish()
	end)
	at_shutdown("sending events at shutdown", function()
		if sender then
			sender:finish()
		end
	end)
	at_shutdown("closing the spool", function()
		spool:close()
	end)
	at_shutdown("acknowledging events at shutdown", function()
		parts.receipts:close()
	end)
	at_shutdown("ending searches", function()
		questions:close()
	end)
	at_shutdown("ending writes of documents", function()
		parts.documents:close()
	end)

	at_shutdown("the last log lines", function()
		limited.step(math.huge)
	end)
end
