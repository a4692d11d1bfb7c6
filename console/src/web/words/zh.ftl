# 控制台中文。

## 菜单与框架
menu = 页面
menu-watch = 观察
menu-balance = 负载均衡
menu-directors = 调度器
menu-console = 控制台
menu-overview = 概览
menu-events = 事件
menu-services = 虚拟服务
skip = 跳到内容
you-are-here = 当前位置
find = 查找服务、服务器、VIP
sign-out = 退出登录
revision = 修订版 { $count }
on-trial = 修订版 { $count } 正在试运行。如果无人保留，旧配置会自动恢复。
role-viewer = 只读用户
role-operator = 操作员
role-administrator = 管理员
colon = ：
of = { $part } / { $whole }
show = 显示
save = 保存
reason = 原因
leave-it = 保持不变

## 时长
span-days = { $count } 天
span-hours = { $count } 小时
span-minutes = { $count } 分
span-seconds = { $count } 秒

## 概览
overview-good = 一切正常
overview-attention = { $count } 项需要处理
overview-services = { $count } 个虚拟服务
overview-reals = { $all } 台真实服务器中 { $serving } 台接受连接
needs-attention = 需要处理
most-urgent-first = 最紧急的在前
and-more = 另有 { $count } 项
all-services = 全部服务
no-service-yet = 还没有虚拟服务。
no-service-yet-remedy = 可用 viaduct apply FILE 应用配置，或用 viaduct ipvsadm -A 添加服务。
what-changed-last = 最近变更
no-event = 还没有事件。
this-director = 本调度器
fact-connections = 连接
fact-workers = 报文线程
fact-revision = 配置修订版
fact-drained = 已排空的真实服务器
look-at = 查看 { $name }
attention-store = 无法存储，变更被拒绝
attention-real-down = { $service }：真实服务器 { $real } 故障
attention-suspected = { $service }：真实服务器 { $real } 似乎设置有误
attention-draining = { $service }：{ $real } 正在排空
attention-vrrp = VRRP 实例 { $name } 有故障
connections-remain = { $count ->
    [0] 没有剩余连接。
   *[other] 剩余 { $count } 个连接。
 }

## 状态
state = 状态
every-state = 全部状态
tone-bad = 故障
tone-warn = 降级
tone-drain = 进行中
tone-good = 健康
tone-off = 已下线
state-healthy = 健康
state-unchecked = 未检查
state-untested = 待检测
state-down = 故障
state-draining = 排空中
state-drained = 已排空
state-sorry = 备用服务器应答
state-weight-0 = 权重 0
state-overloaded = 超过上限
service-empty = 没有真实服务器
service-sorry = 备用服务器应答
service-down = 故障
service-one-left = 只剩一台服务器
service-some-down = { $count } 台服务器故障
service-suspected = { $count } 台服务器设置有误
service-some-drained = { $count } 台服务器已排空
service-untested = 待检测
service-healthy = 全部健康

## 虚拟服务
service = 服务
address = 地址
method = 转发方式
method-nat = 地址转换
method-full-nat = 完全地址转换
method-dr = 直接路由
method-tunnel = 隧道
method-local = 本机
healthy-of = 健康
connections = 连接
sort-by = 排序
sort-state = 最差的在前
sort-name = 按名称
sort-open = 连接最多的在前
none-found = 没有匹配项。
range = 第 { $first } 至 { $last } 项，共 { $whole } 项
page-before = 上一页
page-after = 下一页
no-service = 没有名为“{ $name }”的服务。
no-service-but = 没有名为“{ $name }”的服务。是否要找“{ $nearest }”？

## 单个服务
real-servers = 真实服务器
no-real-server = 该服务没有真实服务器，客户端得不到应答。
server = 服务器
weight = 权重
weight-of = { $real } 的权重
share = 占比
actions = 操作
persistence = 持久连接 { $count } 秒
put-back = 恢复上线
cut-now = 立即断开…
drain = 排空…
force-out = 强制下线…
replies-bypass = 应答不经过调度器，因此只统计进入的流量。
exact-on-hover = 悬停显示精确值
all-events = 全部事件
down-since = 自 { $since } 起故障，已 { $span }。
drained-by = 自 { $since } 起由 { $author } 下线。
drained-because = 原因：“{ $reason }”。
cut-in = { $span } 后断开。

## 排空与强制下线
drain-title = 排空 { $service } 的 { $real }
force-out-title = 将 { $real } 从 { $service } 强制下线
drain-does-new = 不再接收新连接。
drain-does-open = 现有的 { $open } 个连接继续，直到结束或到达截止时间。
force-out-does-open = 现有的 { $open } 个连接立即断开。
drain-does-checks = 健康检查继续；有关它的告警静默。
drain-last = 它是 { $service } 最后一台接受连接的真实服务器：客户端将得不到应答，或由备用服务器应答。
drain-within = 多久后断开剩余连接
drain-never = 从不
drain-within-hint = 届时仍存在的连接将被断开。
drain-persistent = 它的 { $count } 个持久客户端
drain-persistent-move = 立即转到其他真实服务器
drain-persistent-keep = 保留到超时为止
drain-do = 排空 { $real }
force-out-do = 强制下线 { $real }，断开 { $open } 个连接
bad-duration = “{ $value }”不是带单位的时长，例如 10m。

## 事件
severity = 严重程度
every-severity = 全部
severity-warning = 警告和错误
severity-error = 错误
subject = 服务、服务器、接口
older = 更早

## 初始化与登录
setup-title = 初始化控制台
setup-explain = 这将创建第一个管理员。
setup-code = 初始化码
setup-code-hint = 初始化码在守护进程的日志里；viaduct user setup-code 也会显示。
setup-do = 初始化
setup-wrong-code = 初始化码不对。输错三次后会更换。
login-title = 登录
login-do = 登录
login-wrong = 用户名、密码或验证码不对。
user-name = 用户名
password = 密码
password-length = 密码至少 { $count } 个字符。
name-rule = 名称为 1 至 64 个字母、数字、点、横线或下划线。
second-factor = 第二因素验证码
second-factor-hint = 仅在已设置时需要。

## 错误
error-sign-in = 没有登录，或会话已结束。
error-role = 这需要{ $role }角色。
error-foreign = 请求不是来自本控制台的页面。
error-wait = 错误次数过多，请在 { $count } 秒后重试。
error-400 = 请求无效
error-400-remedy = 请返回更正。没有任何变更。
error-401 = 请登录
error-401-remedy = 没有任何变更。
error-403 = 不允许
error-403-remedy = 没有任何变更。管理员可以调整角色。
error-404 = 这里没有内容
error-404-remedy = 可能已被删除或改名。概览显示现有内容。
error-409 = 已被他人更改
error-409-remedy = 请查看现状后再决定。您的变更没有应用。
error-413 = 内容过大
error-413-remedy = 没有任何变更。
error-429 = 过于频繁
error-429-remedy = 请等待后重试。
error-500 = 控制台内部出错
error-500-remedy = 转发继续。守护进程的日志有更多信息。
error-503 = 守护进程暂时无法处理
error-503-remedy = 请稍后重试。转发继续。
error-507 = 无法存储
error-507-remedy = 磁盘可能已满：viaduct doctor 会说明办法。转发继续，没有任何变更。

## 配置
menu-config = 配置
config-edit = 编辑
config-last-change = 最近修订版的变更
config-no-change = 没有差异。
config-history = 历史
config-revision = 修订版
config-when = 时间
config-who = 作者
config-what = 内容
config-trial = 试运行
config-runs = 运行中
config-compare = 比较
config-text = 文本
trial-title = 修订版 { $number } 正在试运行：剩余 { $left }
trial-explain = 由 { $author } 应用。如果无人保留，{ $until } 会自动恢复到之前的配置，即使本页面或网络中断也是如此。
trial-keep = 保留修订版 { $count }
trial-back = 立即恢复
revision-title = 修订版 { $count }
revision-changes = 恢复到修订版 { $count } 的变更
revision-go-back = 恢复到修订版 { $count }，试运行 60 秒
edit-comment = 历史备注
edit-trial = 试运行时长
edit-trial-hint = 如果在此时间内无人保留，旧配置会自动恢复。
trial-30 = 30 秒
trial-60 = 60 秒
trial-300 = 5 分
trial-none = 不试运行，直接生效
edit-check = 校验
edit-apply = 应用
edit-changes = 应用后的变更
edit-problems = { $count } 个问题
edit-doubts = 有效，但可能并非本意
edit-place = 第 { $line } 行，第 { $column } 列
edit-conflict = 在您编辑期间，{ $author } 更改了配置；现在是修订版 { $number }。
edit-conflict-remedy = 您的内容在下方，尚未应用。再次应用会覆盖：对方的变更在与您不同之处会被撤回。
edit-conflict-differences = 应用您的内容会对现有配置作出的变更

## 连接
menu-connections = 连接
connections-all = 表中有 { $count } 个
connections-every = 全部连接
client = 客户端
expires = 剩余时间
template = 持久模板
synced = 同步而来
no-connection = 没有打开的连接。
end-these = 断开这些…
end-title = 断开连接
end-needs-condition = 请先指定服务、客户端或真实服务器。
end-count = { $count } 个连接匹配。
end-explain = 再次请求的客户端会重新调度。
end-do = 断开 { $count } 个连接

## 路径解释与丢包
menu-explain = 路径解释
menu-drops = 丢包
explain-about = 一个流的首个报文会遇到的每个决定。查询不会改变任何东西。
explain-to = 目标（VIP 和端口）
explain-goes = 转发到 { $real }
explain-goes-nowhere = 不转发到任何真实服务器
protocol = 协议
protocol-tcp = TCP
protocol-udp = UDP
protocol-sctp = SCTP
bad-endpoint = “{ $value }”不是地址，也不是带端口的地址。
bad-families = 客户端与 VIP 的地址族不同。
drops-about = 守护进程启动以来未转发的报文，按原因列出。
no-drop = 没有丢包。
meaning = 含义
packets = 报文

## 高可用
menu-ha = 高可用
vrrp-instances = VRRP 实例
vrrp-instance = 实例
vrrp-master = 主节点
vrrp-backup = 备节点
vrrp-fault = 故障
vrrp-stopped = 已停止
heard-master = 收到 { $address } 的通告，优先级 { $priority }
interface = 接口
priority = 优先级
no-instance = 本调度器没有备份：它失效时，服务也随之失效。
no-instance-remedy = 添加第二台需要两边都有 [[vrrp]] 和 [peer] 小节；见手册“Two directors”一章。
failover = 切换…
failover-title = 切换 { $name }
failover-does = 另一台调度器成为 { $addresses } 的主节点。
failover-synced = 它拥有本机的全部连接，已建立的流继续。
failover-not-synced = 它没有本机的全部连接：缺少的连接会中断。
failover-back = 此状态保持不变，直到有人在对方切换，或本机优先级更高且允许抢占。
link-title = 另一台调度器
link-up = 已同步
link-catching-up = 正在同步
link-not-paired = 未配对
link-none = 无
link-down = 连接中断
link-none-remedy = 配置中没有对端。
link-peer = 名称
link-address = 地址
link-key = 本调度器的密钥
link-lag = 对方尚未确认的连接
link-adopted = 从对方接收的连接
link-clock = 对方时钟超前
link-round-trip = 往返时间
change-by = { $node } 上的 { $author }：{ $comment }
conflict-title = 两台调度器的配置不同
conflict-explain = 自上次一致以来两边都有变更。在有人选择之前，任何一方都不会应用到另一方。
conflict-own = 本机的最近变更
conflict-peer = 对方的最近变更
conflict-differences = 采用对方配置会在本机作出的变更
conflict-keep-own = 保留本机的
conflict-keep-peer = 保留对方的

## 账户
menu-account = 我的账户
menu-users = 用户
role = 角色
role-of = { $name } 的角色
yes = 是
no = 否
never = 从未
sessions = 会话
sign-in-last = 上次登录
second-factor-short = 第二因素
remove-named = 删除 { $name }
add-user = 添加用户
tokens = 令牌
tokens-about = 供程序使用，代替密码
no-token = 没有令牌。
add-token = 生成令牌
token-made = 这是令牌 { $name }，不会再次显示。
last-sign-in = { $at } 从 { $address } 登录
old-password = 当前密码
new-password = 新密码
old-password-wrong = 当前密码不对。
change-password = 更改并结束其他会话
second-factor-off = 除密码外，还需验证器应用给出的验证码。
second-factor-set-up = 设置
second-factor-offer = 将此密钥输入验证器应用，然后输入它显示的验证码。
second-factor-confirm = 确认
second-factor-wrong = 验证码不对。没有任何变更。
second-factor-secret = 这不是本控制台的密钥。
second-factor-on = 已设置。
second-factor-remove = 移除
recovery-made = 请保存这些恢复码。验证器丢失时每个可用一次，不会再次显示。
this-session = 本会话
