std = "lua51"
max_line_length = 120
codes = true

read_globals = {
	"core",
	"dump",
	"ItemStack",
	"SecureRandom",
	"vector",
	table = {fields = {"copy"}},
}

files["producers/luanti/engram/init.lua"] = {globals = {"engram"}}
files["producers/luanti/examples/engram_woodcutter"] = {read_globals = {"engram"}}
files["tests/luanti/driver"] = {read_globals = {"engram", "default"}, globals = {"core"}}
files["tests/luanti/stopwatch"] = {globals = {"core", "stopwatch"}}
files["tests/luanti/specs"] = {std = "+busted"}
