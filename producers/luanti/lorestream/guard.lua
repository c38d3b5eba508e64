-- Calls functions so that an error in them does not reach the engine: an error that leaves a callback stops the server.

local POSITION = "^[^\n]-:%d+:"

-- log(level, text). Returns {wrap(what, fn), errors = number of errors so far, last_error = the last one or nil}.
return function(log)
	local guard = {errors = 0}
	local seen = {}

	local function outcome(what, ok, ...)
		if ok then
			return ...
		end
		-- tostring() of an error that is a table may call code that raises again.
		local trouble = ...
		trouble = type(trouble) == "string" and trouble or "an error of type " .. type(trouble)
		guard.errors = guard.errors + 1
		guard.last_error = what .. ": " .. trouble
		local place = what .. (trouble:match(POSITION) or "")
		if not seen[place] then
			seen[place] = true
			log("error", ("%s failed, the server goes on (logged once for each place): %s"):format(what, trouble))
		end
		return nil
	end

	-- A function that calls fn and returns its results. If fn raises an error, it is counted, logged once for each
	-- place, and nil is returned. what: the work in words, for the log.
	function guard.wrap(what, fn)
		return function(...)
			return outcome(what, pcall(fn, ...))
		end
	end

	return guard
end
