//! The macro that makes a crate a plugin.

/// Makes a crate a sink plugin: exports the four functions of the ABI for one type.
///
/// The type must be a [`Sink`](crate::Sink), and `Type::new(id: u32, config: C) -> Type` must exist for some `C` that
/// deserializes from the JSON of `[plugin_config]` (`null` if there is none). The version that the plugin reports is that of
/// the crate that uses the macro; this crate must be a `cdylib`, built with `panic = "unwind"`.
///
/// Nothing is exported from a test build of the crate.
#[macro_export]
macro_rules! sink_connector {
    ($sink:ty) => {
        $crate::names_of_the_runtimes_sdk!();

        const _: () = {
            const fn is_a_sink<T: $crate::Sink>() {}
            is_a_sink::<$sink>();
        };

        #[cfg(not(test))]
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
        const _: () = {
            static REGISTRY: $crate::ffi::Registry<$sink> = $crate::ffi::Registry::new();

            #[unsafe(no_mangle)]
            unsafe extern "C" fn iggy_sink_open(
                id: u32,
                config: *const u8,
                config_len: usize,
                log: ::core::option::Option<$crate::LogCallback>,
            ) -> i32 {
                // SAFETY: the ABI asks of the caller what `open` asks.
                unsafe { REGISTRY.open(id, config, config_len, log, <$sink>::new) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn iggy_sink_consume(
                id: u32,
                topic: *const u8,
                topic_len: usize,
                metadata: *const u8,
                metadata_len: usize,
                messages: *const u8,
                messages_len: usize,
            ) -> i32 {
                // SAFETY: the ABI asks of the caller what `consume` asks.
                unsafe {
                    REGISTRY.consume(id, topic, topic_len, metadata, metadata_len, messages, messages_len)
                }
            }

            #[unsafe(no_mangle)]
            extern "C" fn iggy_sink_close(id: u32) -> i32 {
                REGISTRY.close(id)
            }

            #[unsafe(no_mangle)]
            extern "C" fn iggy_sink_version() -> *const ::core::ffi::c_char {
                ::core::concat!(::core::env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
            }
        };
    };
}

/// What the macro of the runtime's SDK also brings into scope, so that sinks can name it without an import.
#[cfg(feature = "dashmap")]
#[doc(hidden)]
#[macro_export]
macro_rules! names_of_the_runtimes_sdk {
    () => {
        #[allow(unused_imports)]
        use $crate::DashMap;
    };
}

/// Nothing, without the feature `dashmap`.
#[cfg(not(feature = "dashmap"))]
#[doc(hidden)]
#[macro_export]
macro_rules! names_of_the_runtimes_sdk {
    () => {};
}
