# The console in English.

## Menu and frame
menu = Pages
menu-watch = Watch
menu-balance = Balance
menu-directors = Directors
menu-console = Console
menu-overview = Overview
menu-events = Events
menu-services = Services
skip = Skip to content
you-are-here = You are here
find = Find a service, server, VIP
sign-out = Sign out
revision = revision { $count }
on-trial = Revision { $count } runs on trial. Unless somebody keeps it, the old configuration comes back by itself.
role-viewer = viewer
role-operator = operator
role-administrator = administrator
colon = {": "}
of = { $part } of { $whole }
show = Show
save = Save
reason = Reason
leave-it = Leave it as it is

## Spans
span-days = { $count } d
span-hours = { $count } h
span-minutes = { $count } min
span-seconds = { $count } s

## Overview
overview-good = All is well
overview-attention = { $count ->
    [one] 1 thing needs attention
   *[other] { $count } things need attention
 }
overview-services = { $count ->
    [one] 1 service
   *[other] { $count } services
 }
overview-reals = { $serving } of { $all } real servers take connections
needs-attention = Needs attention
most-urgent-first = most urgent first
and-more = and { $count } more
all-services = All services
no-service-yet = There is no virtual service yet.
no-service-yet-remedy = Apply a configuration with viaduct apply FILE, or add a service with viaduct ipvsadm -A.
what-changed-last = What changed last
no-event = Nothing has happened yet.
this-director = This director
fact-connections = Connections
fact-workers = Packet workers
fact-revision = Configuration revision
fact-drained = Drained real servers
look-at = Look at { $name }
attention-store = Changes are refused, because they cannot be stored
attention-real-down = { $service }: real server { $real } is down
attention-suspected = { $service }: real server { $real } seems to be set up wrongly
attention-draining = { $service }: { $real } is being drained
attention-vrrp = VRRP instance { $name } has a fault
connections-remain = { $count ->
    [0] No connections remain.
    [one] 1 connection remains.
   *[other] { $count } connections remain.
 }

## States
state = State
every-state = Every state
tone-bad = In trouble
tone-warn = Degraded
tone-drain = Under way
tone-good = Healthy
tone-off = Taken out
state-healthy = Healthy
state-unchecked = Not checked
state-untested = Being checked
state-down = Down
state-draining = Draining
state-drained = Drained
state-sorry = Sorry server answers
state-weight-0 = Weight 0
state-overloaded = Over its limit
service-empty = No real server
service-sorry = Sorry server answers
service-down = Down
service-one-left = One server left
service-some-down = { $count ->
    [one] 1 server down
   *[other] { $count } servers down
 }
service-suspected = { $count ->
    [one] 1 server set up wrongly
   *[other] { $count } servers set up wrongly
 }
service-some-drained = { $count ->
    [one] 1 server drained
   *[other] { $count } servers drained
 }
service-untested = Being checked
service-healthy = All healthy

## Services
service = Service
address = Address
method = Method
method-nat = NAT
method-full-nat = Full NAT
method-dr = Direct routing
method-tunnel = Tunnel
method-local = This host
healthy-of = Healthy
connections = Connections
sort-by = Sort by
sort-state = worst first
sort-name = by name
sort-open = most connections first
none-found = Nothing matches.
range = { $first } to { $last } of { $whole }
page-before = Previous page
page-after = Next page
no-service = There is no service "{ $name }".
no-service-but = There is no service "{ $name }". Did you mean "{ $nearest }"?

## One service
real-servers = Real servers
no-real-server = The service has no real server, so clients get no answer.
server = Server
weight = Weight
weight-of = Weight of { $real }
share = Share
actions = Actions
persistence = Persistence { $count } s
put-back = Put back
cut-now = Cut now…
drain = Drain…
force-out = Force out…
replies-bypass = Replies go past the director, so only what comes in is counted.
exact-on-hover = Exact values on hover
all-events = All events
down-since = Down since { $since }, { $span } ago.
drained-by = Taken out since { $since } by { $author }.
drained-because = Reason: "{ $reason }".
cut-in = In { $span } they are cut.

## Drain and force out
drain-title = Drain { $real } of { $service }
force-out-title = Force { $real } out of { $service }
drain-does-new = It gets no new connections.
drain-does-open = Its { $open } open connections go on until they end or the deadline comes.
force-out-does-open = Its { $open } open connections are ended now.
drain-does-checks = Health checks go on; alerts about it are silent.
drain-last = It is the last real server of { $service } that takes connections: clients will get no answer, or the sorry server's.
drain-within = Cut what is left after
drain-never = never
drain-within-hint = Connections that are open then are ended.
drain-persistent = Its { $count } persistent clients
drain-persistent-move = go to another real server at once
drain-persistent-keep = stay until their time is up
drain-do = Drain { $real }
force-out-do = Force { $real } out, ending { $open } connections
bad-duration = "{ $value }" is no duration with its unit, such as 10m.

## Events
severity = Severity
every-severity = Every severity
severity-warning = Warnings and errors
severity-error = Errors
subject = Service, server, interface
older = Older

## Set-up and sign-in
setup-title = Set up the console
setup-explain = This makes the first administrator.
setup-code = Set-up code
setup-code-hint = It is in the log of the daemon; viaduct user setup-code shows it, too.
setup-do = Set up
setup-wrong-code = That is not the set-up code. After three wrong ones there is a new one.
login-title = Sign in
login-do = Sign in
login-wrong = Name, password or code is wrong.
user-name = Name
password = Password
password-length = A password has at least { $count } characters.
name-rule = A name has 1 to 64 letters, digits, dots, dashes and underscores.
second-factor = Code of the second factor
second-factor-hint = Only if one is set up.

## Errors
error-sign-in = Nobody is signed in here, or the session has ended.
error-role = This is for the role { $role }.
error-foreign = The request does not come from a page of this console.
error-wait = { $count ->
    [one] Too many wrong guesses. Try again in 1 second.
   *[other] Too many wrong guesses. Try again in { $count } seconds.
 }
error-400 = That request makes no sense here
error-400-remedy = Go back and correct it. Nothing was changed.
error-401 = Please sign in
error-401-remedy = Nothing was changed.
error-403 = That is not allowed
error-403-remedy = Nothing was changed. An administrator can give another role.
error-404 = There is nothing here
error-404-remedy = It may have been removed or renamed. The overview shows what there is.
error-409 = Somebody else changed it meanwhile
error-409-remedy = Look at what it is now, then decide again. Nothing of yours was applied.
error-413 = That is too large
error-413-remedy = Nothing was changed.
error-429 = Too often
error-429-remedy = Wait that long and try again.
error-500 = Something in the console failed
error-500-remedy = Forwarding goes on. The log of the daemon says more.
error-503 = The daemon cannot do that now
error-503-remedy = Try again in a moment. Forwarding goes on.
error-507 = It could not be stored
error-507-remedy = The disk may be full: viaduct doctor says what to do. Forwarding goes on, and nothing was changed.

## Configuration
menu-config = Configuration
config-edit = Edit
config-last-change = What the last revision changed
config-no-change = Nothing differs.
config-history = History
config-revision = Revision
config-when = When
config-who = Who
config-what = What
config-trial = on trial
config-runs = runs
config-compare = Compare
config-text = As text
trial-title = Revision { $number } runs on trial: { $left } left
trial-explain = { $author } applied it. Unless somebody keeps it, the configuration before it comes back at { $until } by itself, also when this page or the network is lost.
trial-keep = Keep revision { $count }
trial-back = Go back now
revision-title = Revision { $count }
revision-changes = What going back to revision { $count } would change
revision-go-back = Go back to revision { $count }, on trial for 60 s
edit-comment = Comment for the history
edit-trial = Apply on trial for
edit-trial-hint = Unless somebody keeps it within that time, the old configuration comes back by itself.
trial-30 = 30 s
trial-60 = 60 s
trial-300 = 5 min
trial-none = not on trial, for good
edit-check = Check
edit-apply = Apply
edit-changes = What applying it would change
edit-problems = { $count ->
    [one] 1 problem
   *[other] { $count } problems
 }
edit-doubts = Good, but hardly meant
edit-place = Line { $line }, column { $column }
edit-conflict = { $author } changed the configuration while you edited it; revision { $number } is there now.
edit-conflict-remedy = Yours is below and was not applied. Apply it again to put it on top: what the other one changed is taken back where yours differs.
edit-conflict-differences = What applying yours would change in what is there now

## Connections
menu-connections = Connections
connections-all = { $count } in the table
connections-every = All connections
client = Client
expires = Expires in
template = persistence
synced = synced
no-connection = No connection is open.
end-these = End these…
end-title = End connections
end-needs-condition = Name a service, a client or a real server first.
end-count = { $count ->
    [one] 1 connection matches.
   *[other] { $count } connections match.
 }
end-explain = Clients that ask again are scheduled anew.
end-do = { $count ->
    [one] End 1 connection
   *[other] End { $count } connections
 }

## Explain and drops
menu-explain = Explain
menu-drops = Drops
explain-about = What the first packet of a flow would meet. Nothing is changed by asking.
explain-to = To (VIP and port)
explain-goes = It goes to { $real }
explain-goes-nowhere = It goes to no real server
protocol = Protocol
protocol-tcp = TCP
protocol-udp = UDP
protocol-sctp = SCTP
bad-endpoint = "{ $value }" is no address, or no address with a port.
bad-families = Client and VIP are of different families.
drops-about = Packets that were not forwarded since the daemon started, by reason.
no-drop = No packet was dropped.
meaning = Meaning
packets = Packets

## High availability
menu-ha = High availability
vrrp-instances = VRRP instances
vrrp-instance = Instance
vrrp-master = Master
vrrp-backup = Backup
vrrp-fault = Fault
vrrp-stopped = Stopped
heard-master = hears { $address }, priority { $priority }
interface = Interface
priority = Priority
no-instance = This director stands alone: when it fails, its services fail.
no-instance-remedy = A second one needs a [[vrrp]] section on both and a [peer] section; the manual's chapter "Two directors" has both.
failover = Fail over…
failover-title = Fail over { $name }
failover-does = The other director becomes master of { $addresses }.
failover-synced = It has all connections of this one, so established streams go on.
failover-not-synced = It does not have all connections of this one: those that it lacks break.
failover-back = It stays so until somebody fails over there, or this director has the higher priority and may preempt.
link-title = The other director
link-up = In step
link-catching-up = Catching up
link-not-paired = Not paired
link-none = None
link-down = Link down
link-none-remedy = The configuration names no peer.
link-peer = Name
link-address = Address
link-key = This director's key
link-lag = Connections it has not confirmed
link-adopted = Connections taken over from it
link-clock = Its clock is ahead by
link-round-trip = Round trip
change-by = { $author } on { $node }: { $comment }
conflict-title = The two directors have different configurations
conflict-explain = Both were changed since they were the same. Neither is applied on the other until somebody chooses.
conflict-own = Last change here
conflict-peer = Last change there
conflict-differences = What taking the other one's would change here
conflict-keep-own = Keep this director's
conflict-keep-peer = Keep the other one's

## Accounts
menu-account = Own account
menu-users = Users
role = Role
role-of = Role of { $name }
yes = yes
no = no
never = never
sessions = Sessions
sign-in-last = Last sign-in
second-factor-short = Second factor
remove-named = Remove { $name }
add-user = Add user
tokens = Tokens
tokens-about = for programs, instead of a password
no-token = There is no token.
add-token = Make a token
token-made = This is the token { $name }. It is not shown again.
last-sign-in = signed in at { $at } from { $address }
old-password = Present password
new-password = New password
old-password-wrong = That is not the present password.
change-password = Change it, and end other sessions
second-factor-off = A code from an authenticator application, besides the password.
second-factor-set-up = Set it up
second-factor-offer = Enter this secret into an authenticator application, then the code that it shows.
second-factor-confirm = Confirm
second-factor-wrong = That code is wrong. Nothing was changed.
second-factor-secret = That is no secret of this console.
second-factor-on = It is set up.
second-factor-remove = Remove it
recovery-made = Keep these recovery codes. Each is good once, when the application is lost. They are not shown again.
this-session = this one
token-no-account = A token has no account.
